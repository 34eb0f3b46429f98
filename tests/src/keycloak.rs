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

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

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

/// What proves to it that it is the gateway that asks.
pub const SECRET: &str = "a secret of the test";

impl Keycloak {
    /// Makes and starts one, which takes a minute or so; `redirect` is where answers go. The certificates are those of
    /// the lab's authority.
    ///
    /// # Panics
    /// When Maven cannot have it or it does not start; the message says why.
    pub fn start(lab: &Lab, certificates: &Certificates, redirect: &str) -> Self {
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
        fs::write(home.join("data/import/corp-realm.json"), realm).expect("the lab's directory is ours");
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

    /// Somebody's browser, which starts at `url`; gives the address to which it is sent in the end, or `done`.
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
const VERSION: &str = "26.3.5";

/// There when everything is.
const COMPLETE: &str = ".complete";
