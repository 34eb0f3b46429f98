//! What others install, opened: the OCI image, the Debian package, the systemd unit.
//!
//! `cargo xtask image` and `cargo xtask deb` have made them from the gateway under test.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tests::{Outcome, Running};

/// Every digest and size is that of the bytes it names, from the index down to the uncompressed layer.
#[test]
fn the_image_is_one_and_its_gateway_runs() {
    let unpacked = directory();
    let layout = unpacked.path().join("layout");
    fs::create_dir(&layout).expect("the directory is ours");
    run(&["tar", "--extract", "--file", &made(".oci.tar"), "--directory", &shown(&layout)]).ok();
    let version = json(&layout.join("oci-layout"));
    assert_eq!(version["imageLayoutVersion"], "1.0.0");
    let index = json(&layout.join("index.json"));
    let manifest = json(&blob(&layout, &index["manifests"][0]));
    let config = json(&blob(&layout, &manifest["config"]));
    let layer = blob(&layout, &manifest["layers"][0]);

    assert_eq!(index["manifests"][0]["platform"]["architecture"], config["architecture"]);
    assert_eq!(config["os"], "linux");
    assert_eq!(config["config"]["User"], "0:0");
    assert_eq!(config["config"]["Labels"]["org.opencontainers.image.title"], "holdpoint");
    let (tar, root) = (unpacked.path().join("layer.tar"), unpacked.path().join("root"));
    run(&["sh", "-c", &format!("gzip --decompress --stdout {} >{}", shown(&layer), shown(&tar))]).ok();
    assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", digest(&tar)));

    fs::create_dir(&root).expect("the directory is ours");
    run(&["tar", "--extract", "--file", &shown(&tar), "--directory", &shown(&root)]).ok();
    let entrypoint = config["config"]["Entrypoint"][0].as_str().expect("the image has an entrypoint");
    // Nothing of this machine: its libraries, its users, its shell are not in there.
    let chroot = ["chroot", &shown(&root), entrypoint];
    run(&[&chroot[..], &["--version"]].concat()).ok().says(&["holdpoint 0."]);
    fs::write(root.join("etc/holdpoint/x.yaml"), STARTER).expect("the directory is ours");
    run(&[&chroot[..], &["policy", "check", "/etc/holdpoint/x.yaml"]].concat()).ok();
    assert!(!root.join("bin/sh").exists(), "the image has a shell");
    let libraries = run(&["find", &shown(&root), "-name", "*.so*", "-printf", "%f\n"]).ok().stdout;
    let terms = terms(&root);
    assert!(libraries.lines().count() > 3, "{libraries}");
    for library in libraries.lines() {
        assert!(terms.contains(library), "the terms of {library} are not in the image");
    }
    // A digest that is wrong is found.
    fs::write(&tar, "another").expect("the file is ours");
    assert_ne!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", digest(&tar)));
}

/// Installed by dpkg itself, under a root of its own, with the libraries left to the machine.
#[test]
fn the_package_installs_and_starts_nothing() {
    let (package, directory) = (made(".deb"), directory());
    let root = shown(directory.path());
    run(&["dpkg-deb", "--info", &package]).ok().says(&["Package: holdpoint", "libc6 (>=", "libnftnl11", "libmnl0"]);
    let listed = run(&["dpkg-deb", "--contents", &package]).ok().stdout;
    assert!(listed.lines().all(|line| line.contains("root/root")), "somebody else's files: {listed}");

    for part in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers"] {
        fs::create_dir_all(directory.path().join(part)).expect("the directory is ours");
    }
    fs::write(directory.path().join("var/lib/dpkg/status"), "").expect("the directory is ours");
    // Scripts would need a shell in there; what they do is for a machine that runs systemd.
    let database = format!("--root={root}");
    let quiet = ["--force-not-root", "--force-depends", "--force-script-chrootless", "--log=/dev/null"];
    run(&[&["dpkg", &database][..], &quiet, &["--install", &package]].concat()).ok();
    let conffiles =
        run(&["dpkg-query", &format!("--admindir={root}/var/lib/dpkg"), "-W", "-f=${Conffiles}", "holdpoint"]);
    conffiles.ok().says(&["/etc/holdpoint/holdpoint.yaml", "/etc/holdpoint/policies/postgres.yaml"]);
    assert!(!directory.path().join("etc/systemd/system").exists(), "the package enables something");

    terms(directory.path());
    let holdpoint = format!("{root}/usr/sbin/holdpoint");
    run(&[&holdpoint, "--version"]).ok().says(&["holdpoint 0."]);
    for page in ["holdpoint.1", "holdpoint-approvals.1", "holdpoint-approvals-approve.1"] {
        let page = fs::read_to_string(directory.path().join("usr/share/man/man1").join(page)).expect("a page");
        assert!(page.contains(".SH SYNOPSIS"), "{page}");
    }
    let completed = directory.path().join("usr/share/bash-completion/completions/holdpoint");
    assert!(fs::read_to_string(completed).expect("it is packed").contains("complete -F"));
    for what in ["check", "test"] {
        run(&[&holdpoint, "policy", what, &format!("{root}/etc/holdpoint/policies")]).ok();
    }
    holdpoint::config::Config::load(&directory.path().join("etc/holdpoint/holdpoint.yaml"))
        .expect("the settings are good");
}

/// systemd reads every line of the unit, and rates what it is left with.
#[test]
fn systemd_takes_the_unit_and_finds_it_confined() {
    let directory = directory();
    let unit = directory.path().join("holdpoint.service");
    let shipped = fs::read_to_string(checkout().join("deploy/systemd/holdpoint.service")).expect("it is there");
    // The one line that is about this machine.
    let text = shipped.replace("/usr/sbin/holdpoint", "/bin/true");
    fs::write(&unit, &text).expect("the directory is ours");
    run(&["systemd-analyze", "verify", "--man=no", &shown(&unit)]).ok().hides("Unknown").hides("holdpoint.service:");
    let score = run(&["systemd-analyze", "security", "--offline=true", "--threshold=50", &shown(&unit)]).ok();
    println!("{}", score.stdout.lines().last().unwrap_or_default());

    // What would be found.
    fs::write(&unit, text.replace("ProtectSystem=", "ProtectSytem=")).expect("the directory is ours");
    run(&["systemd-analyze", "verify", "--man=no", &shown(&unit)]).says(&["ProtectSytem"]);
    fs::write(&unit, "[Service]\nExecStart=/bin/true\n").expect("the directory is ours");
    run(&["systemd-analyze", "security", "--offline=true", "--threshold=50", &shown(&unit)]).failed();
}

/// What is said of others' work, which must name all of it and have the texts that it points to.
fn terms(root: &Path) -> String {
    let terms = fs::read_to_string(root.join("usr/share/doc/holdpoint/THIRD-PARTY")).expect("it is packed");
    let listed = ["libnftnl11: libnftnl.so", "libmnl0: libmnl.so", "libc6: ", "librocksdb-sys ", "aya-ebpf ", "tokio "];
    let texts = [
        "GNU GENERAL PUBLIC LICENSE\n                       Version 2",
        "GNU LESSER GENERAL PUBLIC LICENSE\n                       Version 2.1",
        "Apache License\n",
        "The PostgreSQL Global Development Group",
    ];
    for words in listed.iter().chain(&texts) {
        assert!(terms.contains(words), "{words:?} is not in THIRD-PARTY");
    }
    // Every crate that is linked, asked of cargo in another way, and every text that somebody points to.
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--locked", "--package=gateway", "--edges=normal,no-proc-macro", "--prefix=none"]);
    let tree = Running::start(tree.args(["--format={p}"]).current_dir(checkout())).finish(Duration::from_secs(60)).ok();
    let crates = tree.stdout.lines().filter(|line| !line.contains('/')).filter_map(|line| line.split_once(" v"));
    let mut count = 0;
    for (name, version) in crates {
        let version = version.split(' ').next().unwrap_or_default();
        assert!(terms.contains(&format!("\n{name} {version}: ")), "{name} {version} is linked and not listed");
        count += 1;
    }
    assert!(count > 100, "cargo tree lists {count} crates");
    let pointed = terms.lines().filter_map(|line| line.rsplit_once("(text ")?.1.strip_suffix(')'));
    for number in pointed.flat_map(|numbers| numbers.split(", ")) {
        assert!(terms.contains(&format!("\nText {number}\n")), "text {number} is missing");
    }
    terms
}

/// The file that a descriptor names, which must be as it says.
fn blob(layout: &Path, descriptor: &Value) -> PathBuf {
    let named = descriptor["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:"));
    let named = named.expect("a descriptor has a digest");
    let path = layout.join("blobs/sha256").join(named);
    assert_eq!(digest(&path), named, "{descriptor}");
    assert_eq!(Some(fs::metadata(&path).expect("it is there").len()), descriptor["size"].as_u64(), "{descriptor}");
    path
}

fn digest(file: &Path) -> String {
    let said = run(&["sha256sum", &shown(file)]).ok().stdout;
    said.split_whitespace().next().expect("sha256sum prints a digest").to_owned()
}

fn json(file: &Path) -> Value {
    let text = fs::read_to_string(file).expect("the file is there");
    serde_json::from_str(&text).expect("it is JSON")
}

/// What xtask made of the gateway under test.
fn made(ending: &str) -> String {
    let test = std::env::current_exe().expect("a running test has a path");
    let directory = test.ancestors().nth(3).expect("tests run from target/debug/deps").join("dist");
    let files = fs::read_dir(&directory).into_iter().flatten().flatten().map(|entry| shown(&entry.path()));
    let file = files.into_iter().find(|file| file.ends_with(ending));
    file.unwrap_or_else(|| panic!("no {ending} in {}; run: cargo xtask image && cargo xtask deb", directory.display()))
}

fn run(argv: &[&str]) -> Outcome {
    Running::start(Command::new(argv[0]).args(&argv[1..]).env("LC_ALL", "C")).finish(Duration::from_secs(60))
}

fn directory() -> TempDir {
    tempfile::Builder::new().prefix("holdpoint-package-").tempdir().expect("a temporary directory can be made")
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn checkout() -> PathBuf {
    let package =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.parent().map(Path::to_owned).expect("this package is a directory of the workspace")
}

const STARTER: &str = include_str!("../../policies/postgres.yaml");
