//! Keycloak: a real one of the lab's own, in TLS, with the realm `corp`.

use std::{
    fs,
    io::Write as _,
    net::{Ipv4Addr, TcpListener},
    os::unix::{fs::symlink, process::CommandExt as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{Certificates, Lab, eventually, oidc, python};

/// A running Keycloak on a free port of 127.0.0.1 with a certificate for `localhost`. Its realm has the client
/// [`oidc::CLIENT_ID`] with the secret [`SECRET`]; Ada (in `DBA`) can sign in, and Eve, whose address nobody has verified.
#[derive(Debug)]
pub struct Keycloak {
    port: u16,
    ca: String,
    home: PathBuf,
    child: Child,
}

/// How the gateway is registered at the realm as a service of SAML. The realm signs by its defaults: the assertion, by RSA.
#[derive(Debug, Clone)]
pub struct SamlClient {
    /// What it is called there.
    pub entity_id: String,
    /// Where answers go.
    pub acs: String,
    /// Whether the realm signs the answer, and not the assertion.
    pub signs_answer: bool,
    /// The certificate in DER for which the realm encrypts, and with whose key the gateway signs.
    pub certificate: Option<Vec<u8>>,
}

impl SamlClient {
    fn registered(&self) -> Value {
        let word = |holds: bool| if holds { "true" } else { "false" };
        let keyed = word(self.certificate.is_some());
        let certificate = self.certificate.as_deref().map(|der| STANDARD.encode(der)).unwrap_or_default();
        json!({
            "clientId": self.entity_id,
            "protocol": "saml",
            "enabled": true,
            "redirectUris": [self.acs],
            "defaultClientScopes": [],
            "attributes": {
                "saml_assertion_consumer_url_post": self.acs,
                "saml_name_id_format": "email",
                "saml_signature_canonicalization_method": "http://www.w3.org/2001/10/xml-exc-c14n#",
                "saml.signature.algorithm": "RSA_SHA256",
                "saml.server.signature": word(self.signs_answer),
                "saml.assertion.signature": word(!self.signs_answer),
                "saml.authnstatement": "true",
                "saml.force.post.binding": "true",
                "saml.client.signature": keyed,
                "saml.signing.certificate": certificate,
                "saml.encrypt": keyed,
                "saml.encryption.certificate": certificate,
                "saml.encryption.algorithm": "http://www.w3.org/2009/xmlenc11#aes256-gcm",
                "saml.encryption.keyAlgorithm": "http://www.w3.org/2009/xmlenc11#rsa-oaep",
                "saml.encryption.digestMethod": "http://www.w3.org/2001/04/xmlenc#sha256",
                "saml.encryption.maskGenerationFunction": "http://www.w3.org/2009/xmlenc11#mgf1sha256",
            },
            "protocolMappers": [{
                "name": "groups",
                "protocol": "saml",
                "protocolMapper": "saml-group-membership-mapper",
                "config": {
                    "attribute.name": "groups", "attribute.nameformat": "Basic", "full.path": "false", "single": "true",
                },
            }],
        })
    }
}

/// What proves to it that it is the gateway that asks.
pub const SECRET: &str = "a secret of the test";

impl Keycloak {
    /// Makes and starts one, which takes a minute or so; `redirect` is where answers go. The certificates are those of
    /// the lab's authority.
    ///
    /// # Panics
    /// When Maven cannot have it or it does not start; the message says why.
    pub fn start(lab: &Lab, certificates: &Certificates, redirect: &str) -> Self {
        Self::start_with(lab, certificates, redirect, &[])
    }

    /// The same, and these are registered there besides.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn start_with(lab: &Lab, certificates: &Certificates, redirect: &str, saml: &[SamlClient]) -> Self {
        let made = made();
        let home = lab.path("keycloak");
        // It finds itself by its script, and writes beside it.
        for directory in ["bin", "data/import"] {
            fs::create_dir_all(home.join(directory)).expect("the lab's directory is ours");
        }
        fs::copy(made.join("bin/kc.sh"), home.join("bin/kc.sh")).expect("it was just made");
        for part in ["lib", "conf", "providers", "themes"] {
            symlink(made.join(part), home.join(part)).expect("the lab's directory is ours");
        }
        let realm = include_str!("keycloak/realm.json").replace("$REDIRECT", redirect).replace("$SECRET", SECRET);
        let mut realm: Value = serde_json::from_str(&realm).expect("it is JSON");
        realm["clients"].as_array_mut().expect("a list").extend(saml.iter().map(SamlClient::registered));
        fs::write(home.join("data/import/corp-realm.json"), realm.to_string()).expect("the lab's directory is ours");
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let port = free.local_addr().expect("it is bound").port();
        drop(free);
        let log = fs::File::create(home.join("log")).expect("ours");
        let child = Command::new(home.join("bin/kc.sh"))
            .args(["start", "--optimized", "--import-realm", "--cache=local", "--http-enabled=false"])
            .args(["--hostname-strict=false", "--http-host=127.0.0.1", &format!("--https-port={port}")])
            .arg(format!("--https-certificate-file={}", certificates.path("server.crt")))
            .arg(format!("--https-certificate-key-file={}", certificates.path("server.key")))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("it was just made");
        let mut own = Self { port, ca: certificates.path("ca.crt"), home, child };
        eventually("Keycloak serves", Duration::from_secs(240), || {
            assert!(own.child.try_wait().expect("it is ours").is_none(), "Keycloak does not start");
            own.log().contains("Listening on:").then_some(())
        });
        own
    }

    /// The realm's issuer.
    pub fn issuer(&self) -> String {
        format!("https://localhost:{}/realms/corp", self.port)
    }

    /// What the realm says of itself as a provider of SAML.
    ///
    /// # Panics
    /// When it does not say it.
    pub fn saml_metadata(&self) -> String {
        let url = format!("{}/protocol/saml/descriptor", self.issuer());
        let said = Command::new("curl").args(["-sS", "--fail", "--cacert", &self.ca, &url]).output().expect("curl");
        assert!(said.status.success(), "{url}: {}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8(said.stdout).expect("text")
    }

    /// Somebody's browser, which starts at `url`; gives the address to which it is sent in the end, with the form that it
    /// posts there on a second line, or `done`.
    ///
    /// # Panics
    /// When it meets an error.
    #[track_caller]
    pub fn browse(&self, url: &str, who: &str) -> String {
        oidc::browse(&self.home, &self.ca, url, who)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.home.join("log")).unwrap_or_default()
    }
}

impl Drop for Keycloak {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "--- Keycloak\n{}\n---", self.log());
        }
        // Its script waits for it.
        let _ = killpg(Pid::from_raw(i32::try_from(self.child.id()).expect("process ids fit")), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// Keycloak as Maven has it, made ready for a database in memory once per machine.
fn made() -> PathBuf {
    let _one_at_a_time = python::lock("keycloak");
    let cache = python::cache().join("keycloak");
    let home = cache.join(format!("keycloak-{VERSION}"));
    if home.join(COMPLETE).exists() {
        return home;
    }
    fs::create_dir_all(&cache).expect("the cache directory can be written to");
    let (repository, project) = (cache.join("maven"), cache.join("pom.xml"));
    let text =
        include_str!("keycloak/pom.xml").replace("$VERSION", VERSION).replace("$TO", &cache.display().to_string());
    fs::write(&project, text).expect("the cache directory can be written to");
    let repository = format!("-Dmaven.repo.local={}", repository.display());
    python::must_run(&["mvn", "--quiet", "--batch-mode", &repository, "-f", &project.display().to_string(), "package"]);
    let script = home.join("bin/kc.sh").display().to_string();
    python::must_run(&["chmod", "+x", &script]);
    python::must_run(&[&script, "build", "--db=dev-mem"]);
    fs::remove_dir_all(cache.join("maven")).expect("it was just made");
    fs::write(home.join(COMPLETE), "").expect("it was just made");
    home
}

/// The version.
const VERSION: &str = "26.4.7";

/// There when everything is.
const COMPLETE: &str = ".complete";
