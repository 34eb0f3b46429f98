//! Python with the drivers that bots use, made once per machine.

use std::{env, fs, fs::File, path::PathBuf, process::Command};

use nix::fcntl::{Flock, FlockArg};

/// Makes the virtual environment where it is missing, and returns its path. Call before `Lab::new`.
///
/// # Panics
/// When Python or its packages cannot be had; the message has the command that failed.
pub fn venv() -> PathBuf {
    environment("venv", &["psycopg[binary]", "asyncpg", "sqlalchemy"])
}

/// schemathesis, the program.
pub fn schemathesis() -> PathBuf {
    environment("schemathesis", &["schemathesis==4.32.5"]).join("bin/schemathesis")
}

/// An environment of that name with these packages; each list of packages needs a name of its own.
pub(crate) fn environment(name: &str, packages: &[&str]) -> PathBuf {
    let _one_at_a_time = lock(name);
    let venv = cache().join(name);
    if venv.join(COMPLETE).exists() {
        return venv;
    }
    let path = venv.display().to_string();
    // The system's own Python: one in somebody's home directory is out of reach for the bots' user.
    must_run(&["/usr/bin/python3", "-m", "venv", "--clear", &path]);
    let pip = format!("{path}/bin/pip");
    must_run(&[&[pip.as_str(), "install", "--quiet", "--disable-pip-version-check"], packages].concat());
    fs::write(venv.join(COMPLETE), "").expect("the environment was just made");
    venv
}

/// The environment, where it is complete.
pub(crate) fn made() -> Option<PathBuf> {
    let venv = cache().join("venv");
    venv.join(COMPLETE).exists().then_some(venv)
}

/// Where things that are made once per machine are kept, outside the checkout.
pub(crate) fn cache() -> PathBuf {
    let home = env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    let cache = home.join(".cache/holdpoint");
    fs::create_dir_all(&cache).expect("the home directory can be written to");
    cache
}

/// Makes others who want the same thing wait until the lock is dropped.
pub(crate) fn lock(name: &str) -> Flock<File> {
    let file = File::create(cache().join(format!("{name}.lock"))).expect("the cache directory can be written to");
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error).expect("a local file can be locked")
}

pub(crate) fn must_run(argv: &[&str]) {
    let ran = Command::new(argv[0]).args(&argv[1..]).output();
    let ran = ran.unwrap_or_else(|error| panic!("cannot run {argv:?}: {error}"));
    assert!(
        ran.status.success(),
        "{argv:?} failed:\n{}{}",
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    );
}

/// There when everything is.
const COMPLETE: &str = ".complete-2";
