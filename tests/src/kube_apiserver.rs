//! A real Kubernetes API server of a test's own, with etcd inside its process.
//!
//! It listens on a free port of the loopback, keeps everything in a temporary directory, and ends with the test. What
//! else a cluster has is not there: no kubelet (a test makes Node and Pod objects and plays the node), no controller
//! manager (nothing fills a Deployment, and a namespace gets its default service account from [`ApiServer::namespace`]),
//! no scheduler (a Pod states its `nodeName`).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nix::{
    sys::{prctl::set_pdeathsig, signal::Signal},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::{Outcome, Running, eventually, postgres::free_port, tool_name::tool_name};

/// A server that answers. Dropping it is `kill -9`, and its data goes with it.
#[derive(Debug)]
pub struct ApiServer {
    running: Option<Running>,
    port: u16,
    dir: TempDir,
}

impl ApiServer {
    /// Starts a server with an empty etcd and waits until it is ready.
    ///
    /// # Panics
    /// When the program is not built (the message has the command), or does not get ready; the message has its log.
    pub fn start() -> Self {
        let dir =
            tempfile::Builder::new().prefix("holdpoint-api-").tempdir().expect("a temporary directory can be made");
        make_secrets(dir.path());
        let mut server = Self { running: None, port: 0, dir };
        server.launch(free_port());
        fs::write(server.kubeconfig(), kubeconfig(server.port, ADMIN_TOKEN)).expect("the directory is ours");
        server.await_readiness();
        server
    }

    /// Starts it again, with the data and on the port that it had before [`ApiServer::kill`].
    ///
    /// # Panics
    /// As [`ApiServer::start`].
    pub fn restart(&mut self) {
        assert!(self.running.is_none(), "the API server runs");
        self.launch(self.port);
        self.await_readiness();
    }

    /// `kill -9` for the server; clients see their connections end and new ones refused.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// Where it is: `https://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The settings of a client that may do everything.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// The certificate by which the server proves who it is; it is its own authority.
    pub fn certificate(&self) -> PathBuf {
        self.dir.path().join("server.crt")
    }

    /// The settings of a client that is the service account `namespace/name`, with a token of its own.
    pub fn kubeconfig_of(&self, namespace: &str, name: &str) -> PathBuf {
        let token = self.kubectl(&["--namespace", namespace, "create", "token", name]).ok().stdout;
        let path = self.dir.path().join(format!("kubeconfig-{namespace}-{name}"));
        fs::write(&path, kubeconfig(self.port, token.trim())).expect("the directory is ours");
        path
    }

    /// The process id.
    pub fn pid(&self) -> Pid {
        self.running.as_ref().expect("the API server runs").pid()
    }

    /// Runs kubectl, as one who may do everything.
    pub fn kubectl(&self, arguments: &[&str]) -> Outcome {
        self.kubectl_with(arguments, "")
    }

    /// Runs kubectl with `input`, as one who may do everything.
    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> Outcome {
        let mut command = Command::new(tool("kubectl"));
        command.arg("--kubeconfig").arg(self.kubeconfig()).args(arguments);
        // Its cache of what the server offers would be shared between servers on one port.
        command.env("HOME", self.dir.path());
        let mut running = Running::start(&mut command);
        running.write(input);
        running.finish(Duration::from_secs(60))
    }

    /// Makes or changes the objects of a manifest.
    ///
    /// # Panics
    /// When the server refuses it.
    #[track_caller]
    pub fn apply(&self, manifest: &str) {
        self.kubectl_with(&["apply", "--filename", "-"], manifest).ok();
    }

    /// Makes a namespace and the service account that a controller would make in it.
    ///
    /// # Panics
    /// When the server refuses it.
    #[track_caller]
    pub fn namespace(&self, name: &str) {
        self.kubectl(&["create", "namespace", name]).ok();
        self.kubectl(&["--namespace", name, "create", "serviceaccount", "default"]).ok();
    }

    fn launch(&mut self, port: u16) {
        self.port = port;
        let dir = self.dir.path();
        let path = |name: &str| dir.join(name).display().to_string();
        let mut command = Command::new(tool("kube-apiserver"));
        command.args(["--etcd-data-dir", &path("etcd")]);
        command.args(["--bind-address=127.0.0.1", &format!("--secure-port={port}")]);
        command.args(["--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none"]);
        command.arg(format!("--tls-cert-file={}", path("server.crt")));
        command.arg(format!("--tls-private-key-file={}", path("server.key")));
        command.arg(format!("--token-auth-file={}", path("tokens.csv")));
        command.args(["--authorization-mode=RBAC", "--service-cluster-ip-range=10.96.0.0/16"]);
        command.args(["--service-account-issuer=https://kubernetes.default.svc"]);
        command.arg(format!("--service-account-signing-key-file={}", path("accounts.key")));
        command.arg(format!("--service-account-key-file={}", path("accounts.key")));
        // Without a controller manager no namespace has a service account, and every pod would be refused.
        command.args(["--disable-admission-plugins=ServiceAccount", "--profiling=false"]);
        // SAFETY: between fork and exec only one system call is made.
        unsafe {
            use std::os::unix::process::CommandExt as _;
            command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?));
        }
        let mut running = Running::start(&mut command);
        running.close_stdin();
        self.running = Some(running);
    }

    fn await_readiness(&mut self) {
        let kubeconfig = self.kubeconfig();
        eventually("the Kubernetes API server is ready", READY, || {
            let running = self.running.as_mut().expect("just launched");
            assert!(running.ended().is_none(), "the API server ended: {running}");
            let mut ask = Command::new(tool("kubectl"));
            ask.arg("--kubeconfig").arg(&kubeconfig).args(["get", "--raw", "/readyz"]).env("HOME", "/nonexistent");
            Running::start(&mut ask).finish(Duration::from_secs(30)).status.success().then_some(())
        });
    }
}

/// A program in Go: `kube-apiserver`, `kubectl`, `helm`, which are Kubernetes' own, or `pgx-client`.
///
/// # Panics
/// When it is not built; the message has the command that builds it.
pub fn tool(name: &str) -> PathBuf {
    let module = Path::new(env!("CARGO_MANIFEST_DIR"));
    let module = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| module.to_owned(), PathBuf::from);
    let source = if name == "pgx-client" { name } else { "kube-apiserver" };
    let file = tool_name(name, &module.join(source)).expect("the checkout has the tools' sources");
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|cache| !cache.is_empty()).map(PathBuf::from);
    let path = cache.unwrap_or_else(|| home.join(".cache")).join("holdpoint/tools").join(file);
    assert!(path.exists(), "{} is not built; run: cargo xtask tools", path.display());
    path
}

/// A certificate for the loopback, a key for service accounts, and one who may do everything.
fn make_secrets(dir: &Path) {
    let path = |name: &str| dir.join(name).display().to_string();
    let elliptic = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let names = "subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:kubernetes.default.svc";
    let (key, certificate) = (path("server.key"), path("server.crt"));
    // rustls takes no authority's certificate for a server's own.
    let no_authority = ["-addext", "basicConstraints=critical,CA:FALSE"];
    let own = ["-subj", "/CN=holdpoint-tests", "-addext", names, "-days", "2", "-keyout", &key, "-out", &certificate];
    crate::python::must_run(&[&["openssl", "req", "-x509"], &elliptic[..], &no_authority, &own[..]].concat());
    crate::python::must_run(&["openssl", "genrsa", "-out", &path("accounts.key"), "2048"]);
    let tokens = format!("{ADMIN_TOKEN},admin,admin,system:masters\n");
    fs::write(dir.join("tokens.csv"), tokens).expect("the directory is ours");
}

fn kubeconfig(port: u16, token: &str) -> String {
    format!(
        "apiVersion: v1
kind: Config
current-context: tests
clusters:
  - name: tests
    cluster: {{ server: \"https://127.0.0.1:{port}\", certificate-authority: server.crt }}
contexts:
  - name: tests
    context: {{ cluster: tests, user: tests }}
users:
  - name: tests
    user: {{ token: \"{token}\" }}
"
    )
}

/// The server is reached from this machine only, and gone with the test.
const ADMIN_TOKEN: &str = "tests-admin";

/// Ten times what it takes on two free processors.
const READY: Duration = Duration::from_secs(120);
