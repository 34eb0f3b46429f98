//! OpenID providers: real ones of the lab's own, in TLS, and a browser without eyes with which people sign in there.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{Certificates, Lab, eventually, node};

/// A running `oidc-provider` on a free port of 127.0.0.1 with a certificate for `localhost`. Ada (in `DBA` and `staff`) and
/// Bob can sign in; Eve can, and nobody has verified her address.
#[derive(Debug)]
pub struct Oidc {
    port: u16,
    ca: String,
    scripts: PathBuf,
    said: Arc<Mutex<Vec<String>>>,
    keys: ChildStdin,
    child: Child,
}

/// How the gateway is registered at a provider.
#[derive(Debug, Clone, Default)]
pub struct OidcClient {
    /// What proves that it is the gateway; a public client without.
    pub secret: Option<&'static str>,
    /// Where answers go.
    pub redirect: &'static str,
    /// Where the provider says that somebody signed out.
    pub back_channel: Option<String>,
    /// How the provider signs.
    pub algorithm: &'static str,
    /// Whether what is asked by scope is in the profile only, as the standard has it.
    pub conform: bool,
}

/// The gateway's name there.
pub const CLIENT_ID: &str = "holdpoint";

/// Where whoever has signed out there goes.
pub const SIGNED_OUT: &str = "https://desk.example/";

impl Oidc {
    /// Makes and starts one. The certificates are those of the lab's authority.
    ///
    /// # Panics
    /// When it cannot be had or does not start; the message says why.
    pub fn start(lab: &Lab, certificates: &Certificates, client: &OidcClient) -> Self {
        let packages = node::packages("oidc", &["oidc-provider@9.13.3"]);
        let scripts = lab.path("oidc");
        fs::create_dir_all(&scripts).expect("the lab's directory is ours");
        for (name, text) in SCRIPTS {
            fs::write(scripts.join(name), text).expect("the lab's directory is ours");
        }
        let person = |email: &str, verified: bool, groups: &[&str]| json!({ "email": email, "email_verified": verified, "groups": groups });
        let settings = json!({
            "algorithm": client.algorithm,
            "conform": client.conform,
            "certificate": certificates.path("server.crt"),
            "key": certificates.path("server.key"),
            "client": registered(client),
            "people": {
                "ada": person("ada@corp.example", true, &["DBA", "staff"]),
                "bob": person("bob@corp.example", true, &[]),
                "eve": person("eve@corp.example", false, &["DBA"]),
            },
        });
        let log = fs::OpenOptions::new().create(true).append(true).open(scripts.join("log")).expect("ours");
        let mut child = Command::new("node")
            .arg(scripts.join("provider.mjs"))
            .args([packages.display().to_string(), settings.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("node is there");
        let said = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stdout.take().expect("it is piped"));
        let heard = said.clone();
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                heard.lock().expect("no test panics with this lock").push(line);
            }
        });
        let keys = child.stdin.take().expect("it is piped");
        let ca = certificates.path("ca.crt");
        let mut own = Self { port: 0, ca, scripts, said, keys, child };
        own.port = eventually("the provider listens", Duration::from_secs(30), || {
            own.said().iter().find_map(|line| line.strip_prefix("port ")).map(|port| port.parse().expect("a port"))
        });
        own
    }

    /// Its issuer.
    pub fn issuer(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// How often it was asked this: `POST /token`.
    pub fn asked(&self, what: &str) -> usize {
        self.said().iter().filter(|line| *line == what).count()
    }

    /// Wants it to have been asked this so often. What it says of a question may come after its answer.
    #[track_caller]
    pub fn was_asked(&self, what: &str, times: usize) {
        eventually(what, Duration::from_secs(20), || (self.asked(what) >= times).then_some(()));
        assert_eq!(self.asked(what), times, "{what}");
    }

    /// Makes it sign with a new key, and publish only that.
    pub fn rotate(&mut self) {
        let before = self.asked("rotated");
        self.keys.write_all(b"rotate\n").expect("it runs");
        eventually("it has a new key", Duration::from_secs(20), || (self.asked("rotated") > before).then_some(()));
    }

    /// Somebody's browser, with their cookies, which starts at `url`; gives the address to which it is sent in the end, or `done`.
    ///
    /// # Panics
    /// When it meets an error.
    #[track_caller]
    pub fn browse(&self, url: &str, who: &str) -> String {
        browse(&self.scripts, &self.ca, url, who)
    }

    /// Ends it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn said(&self) -> Vec<String> {
        self.said.lock().expect("no test panics with this lock").clone()
    }
}

/// Runs a browser that keeps its cookies in `dir` and trusts what `ca` signs.
#[track_caller]
pub(crate) fn browse(dir: &Path, ca: &str, url: &str, who: &str) -> String {
    let (script, text) = SCRIPTS[1];
    fs::write(dir.join(script), text).expect("the lab's directory is ours");
    // One for each provider: cookies know nothing of ports.
    let place = url.split('/').nth(2).unwrap_or_default().replace(':', "-");
    let ran = Command::new("node")
        .arg(dir.join(script))
        .args([url, who, &dir.join(format!("cookies-{place}-{who}")).display().to_string()])
        .env("NODE_EXTRA_CA_CERTS", ca)
        .output()
        .expect("node is there");
    assert!(ran.status.success(), "{url}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout).trim().to_owned()
}

fn registered(client: &OidcClient) -> Value {
    let mut registered = json!({
        "client_id": CLIENT_ID,
        "redirect_uris": [client.redirect],
        "post_logout_redirect_uris": [SIGNED_OUT],
        "grant_types": ["authorization_code", "urn:ietf:params:oauth:grant-type:device_code"],
        "response_types": ["code"],
        "id_token_signed_response_alg": client.algorithm,
        "scope": "openid email groups",
        "token_endpoint_auth_method": if client.secret.is_some() { "client_secret_basic" } else { "none" },
    });
    if let Some(secret) = client.secret {
        registered["client_secret"] = secret.into();
    }
    if let Some(back_channel) = &client.back_channel {
        registered["backchannel_logout_uri"] = back_channel.as_str().into();
        registered["backchannel_logout_session_required"] = true.into();
    }
    registered
}

impl Drop for Oidc {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.scripts.join("log")).unwrap_or_default();
            let said = self.said().join("\n");
            let _ = writeln!(std::io::stderr(), "--- the provider\n{said}\n{log}\n---");
        }
        self.kill();
    }
}

const SCRIPTS: [(&str, &str); 2] =
    [("provider.mjs", include_str!("oidc/provider.mjs")), ("browser.mjs", include_str!("oidc/browser.mjs"))];
