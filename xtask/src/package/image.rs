//! `cargo xtask image`: an OCI image, as a tarball that `skopeo copy oci-archive:…`, `podman load` and `ctr images import`
//! read.
//!
//! One layer: the gateway, the shared libraries that it needs, certificate authorities and a user table. No shell, no
//! package manager. Written without a registry, a daemon or a base image; the format is three small JSON documents, so
//! no library either.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Architecture, Args, Gateway, VERSION, destination, licences, open_directories, put};
use crate::{command, paths};

/// # Errors
/// A library or a tool is missing; the message names it.
pub(crate) fn run(args: &Args) -> Result<()> {
    let gateway = Gateway::take(args)?;
    let directory = tempfile::tempdir().context("cannot make a directory")?;
    let (tree, layout) = (directory.path().join("tree"), directory.path().join("layout"));
    fill(&tree, &gateway)?;
    fs::create_dir_all(layout.join("blobs/sha256"))?;
    write_layout(&tree, &layout, gateway.architecture)?;
    let image = destination(&format!("holdpoint-{VERSION}-{}.oci.tar", gateway.architecture.name))?;
    archive(&layout, &image)?;
    println!("{}", image.display());
    Ok(())
}

/// Everything that is in the image.
fn fill(tree: &Path, gateway: &Gateway) -> Result<()> {
    put(&gateway.stripped, tree, ENTRYPOINT, 0o755)?;
    for library in libraries(&gateway.stripped, gateway.architecture)? {
        let place = library.display().to_string();
        let mode = if place.contains("/ld-linux") { 0o755 } else { 0o644 };
        put(&library, tree, &place, mode)?;
    }
    put(Path::new(AUTHORITIES), tree, AUTHORITIES, 0o644)?;
    put(&paths::root().join("LICENSE"), tree, "/usr/share/doc/holdpoint/LICENSE", 0o644)?;
    licences::add(gateway, tree)?;
    let texts = tree.parent().context("a tree is in a directory")?.join("text");
    for (path, text) in TEXTS {
        fs::write(&texts, text)?;
        put(&texts, tree, path, 0o644)?;
    }
    // What is mounted in the read-only root.
    for directory in ["proc", "sys", "dev", "tmp", "run/holdpoint", "var/lib/holdpoint", "etc/holdpoint"] {
        fs::create_dir_all(tree.join(directory))?;
    }
    open_directories(tree)
}

/// The shared libraries of `binary`, and theirs, with the program that loads them: read from the files, so that an image
/// for another architecture can be made where Debian has installed that one's libraries.
pub(super) fn libraries(binary: &Path, architecture: Architecture) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut to_read = vec![binary.to_owned()];
    while let Some(file) = to_read.pop() {
        let said = command::output(Command::new("readelf").args(["-W", "-l", "-d"]).arg(&file))?;
        for name in said.lines().filter_map(needed) {
            let library = find_library(name, architecture)?;
            if found.insert(library.clone()) {
                to_read.push(library);
            }
        }
    }
    Ok(found)
}

/// `0x… (NEEDED)  Shared library: [libm.so.6]`, `[Requesting program interpreter: /lib64/ld-linux-x86-64.so.2]`
fn needed(line: &str) -> Option<&str> {
    let library = line.split_once("Shared library: [").and_then(|(_, rest)| rest.strip_suffix(']'));
    let loader = || line.trim().strip_prefix("[Requesting program interpreter: ")?.strip_suffix(']');
    library.or_else(loader)
}

fn find_library(name: &str, architecture: Architecture) -> Result<PathBuf> {
    if name.starts_with('/') {
        return Ok(name.into());
    }
    let directories = ["/lib", "/usr/lib"].map(|directory| Path::new(directory).join(architecture.triplet));
    let loaders = [PathBuf::from("/lib64"), PathBuf::from("/lib")];
    let found = directories.iter().chain(&loaders).map(|directory| directory.join(name)).find(|path| path.exists());
    match found {
        Some(path) => Ok(path),
        None => bail!(
            "{name} is not installed for {}: run `dpkg --add-architecture {}` and apt-get install its package",
            architecture.name,
            architecture.name
        ),
    }
}

/// Layer, configuration, manifest, index: each names the one before by its digest.
fn write_layout(tree: &Path, layout: &Path, architecture: Architecture) -> Result<()> {
    let layer = tree.with_extension("tar");
    archive(tree, &layer)?;
    let contents = digest(&fs::read(&layer)?);
    // `-n`: no name and no time in it.
    command::output(Command::new("gzip").args(["-n", "-9", "--force"]).arg(&layer))?;
    let layer = keep(layout, LAYER, &fs::read(layer.with_extension("tar.gz"))?)?;
    let config = json!({
        "architecture": architecture.name,
        "os": "linux",
        "config": {
            "Entrypoint": [ENTRYPOINT],
            "Cmd": ["run"],
            "User": "0:0",
            "Env": ["PATH=/usr/local/bin", format!("SSL_CERT_FILE={AUTHORITIES}")],
            "Labels": labels(),
        },
        "rootfs": { "type": "layers", "diff_ids": [contents] },
        "history": [{ "created": EPOCH, "created_by": "cargo xtask image" }],
        "created": EPOCH,
    });
    let config = keep(layout, "application/vnd.oci.image.config.v1+json", &serde_json::to_vec(&config)?)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config,
        "layers": [layer],
        "annotations": labels(),
    });
    let mut manifest = keep(layout, MANIFEST, &serde_json::to_vec(&manifest)?)?;
    manifest["platform"] = json!({ "architecture": architecture.name, "os": "linux" });
    manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": VERSION });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [manifest],
    });
    fs::write(layout.join("index.json"), serde_json::to_vec(&index)?)?;
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    Ok(())
}

fn labels() -> Value {
    json!({
        "org.opencontainers.image.title": "holdpoint",
        "org.opencontainers.image.description": "Holds bots' risky operations until a person approves them",
        "org.opencontainers.image.version": VERSION,
        "org.opencontainers.image.licenses": "Apache-2.0",
    })
}

/// Keeps a blob under its digest and describes it.
fn keep(layout: &Path, media_type: &str, bytes: &[u8]) -> Result<Value> {
    let digest = digest(bytes);
    let name = digest.trim_start_matches("sha256:");
    fs::write(layout.join("blobs/sha256").join(name), bytes)?;
    Ok(json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() }))
}

fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    format!("sha256:{}", digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// The same files give the same archive.
fn archive(directory: &Path, to: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--format=posix", "--pax-option=delete=atime,delete=ctime", "--sort=name", "--mtime=@0"]);
    tar.args(["--owner=0", "--group=0", "--numeric-owner", "--create", "--file"]).arg(to);
    command::output(tar.arg("--directory").arg(directory).arg(".")).map(drop)
}

const ENTRYPOINT: &str = "/usr/local/bin/holdpoint";
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const EPOCH: &str = "1970-01-01T00:00:00Z";

/// Who is who inside: approvers are asked for by the name that the kernel's number has here.
const TEXTS: [(&str, &str); 3] = [
    ("/etc/passwd", "root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n"),
    ("/etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
];
