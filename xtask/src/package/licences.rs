//! `THIRD-PARTY`: what a packed gateway is made of beside its own sources, and under what terms.
//!
//! Made from what was built: the crates that cargo links, with the texts that they come with, and the shared libraries
//! that the binary loads, with the copyright files of their packages. Texts that many share are there once.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{Gateway, image::libraries, put};
use crate::command;

/// Puts the file into `tree`.
pub(super) fn add(gateway: &Gateway, tree: &Path) -> Result<()> {
    let made = tree.parent().context("a tree is in a directory")?.join("third-party");
    fs::write(&made, text(gateway)?)?;
    put(&made, tree, PLACE, 0o644)
}

fn text(gateway: &Gateway) -> Result<String> {
    let mut texts = Texts::default();
    let crates = crates(&mut texts)?;
    let libraries = packages(gateway, &mut texts)?;
    let mut page = format!("{HEAD}\n");
    page += &format!("Rust crates, linked into the gateway and its kernel programs\n\n{crates}\n");
    page += &format!("Shared libraries that the gateway loads, by their Debian packages\n\n{libraries}\n");
    Ok(page + &texts.in_order())
}

/// Every text once, by its number.
#[derive(Default)]
struct Texts {
    numbers: BTreeMap<String, usize>,
}

impl Texts {
    /// The number of a text.
    fn number(&mut self, text: &str) -> usize {
        let next = self.numbers.len() + 1;
        *self.numbers.entry(text.replace("\r\n", "\n")).or_insert(next)
    }

    fn in_order(&self) -> String {
        let mut texts: Vec<_> = self.numbers.iter().collect();
        texts.sort_by_key(|(_, number)| **number);
        let page =
            |(text, number): (&String, &usize)| format!("{RULE}\nText {number}\n{RULE}\n\n{}\n\n", text.trim_end());
        texts.into_iter().map(page).collect()
    }
}

// ---- crates

fn crates(texts: &mut Texts) -> Result<String> {
    let metadata = command::output(command::cargo().args(["metadata", "--format-version=1", "--locked"]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata wrote no JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let linked = linked()?;
    let mut lines = BTreeSet::new();
    for package in packages {
        let field = |name: &str| package[name].as_str().unwrap_or_default();
        let (name, version, licence) = (field("name"), field("version"), field("license"));
        // The workspace's own have no source.
        if package["source"].is_null() || !linked.contains(&format!("{name} v{version}")) {
            continue;
        }
        let directory = Path::new(field("manifest_path")).parent().context("a manifest is in a directory")?;
        let found = terms(name, directory, licence)?;
        let numbers: Vec<_> = found.iter().map(|text| texts.number(text).to_string()).collect();
        lines.insert(format!("{name} {version}: {licence} (text {})\n", numbers.join(", ")));
    }
    Ok(lines.into_iter().collect())
}

/// `NAME vVERSION` of what is linked: neither what only builds nor what only tests.
fn linked() -> Result<HashSet<String>> {
    let mut found = HashSet::new();
    for (package, target) in [("gateway", "x86_64-unknown-linux-gnu"), ("gateway-ebpf", "bpfel-unknown-none")] {
        let mut tree = command::cargo();
        tree.args(["tree", "--locked", "--prefix=none", "--no-dedupe", "--format={p}", "--edges=normal,no-proc-macro"]);
        let lines = command::output(tree.args(["--package", package, "--target", target]))?;
        found.extend(lines.lines().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")));
    }
    Ok(found)
}

/// The texts that a crate comes with. Where it has none: what its README says, and the licence's usual words.
fn terms(name: &str, directory: &Path, licence: &str) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    licence_files(directory, DEPTH, &mut paths)?;
    paths.sort();
    let mut texts: Vec<_> = paths.iter().map(read).collect::<Result<_>>()?;
    if texts.is_empty() {
        texts.extend(section(&directory.join("README.md")));
        texts.extend(usual(licence)?);
    }
    if name == "pg_query" {
        texts.extend(parser(directory)?);
    }
    if texts.is_empty() {
        bail!("{name} has no licence text, and `{licence}` is none that is known here: add it to `usual`");
    }
    Ok(texts)
}

/// What a README says of the licence.
fn section(readme: &Path) -> Option<String> {
    let text = fs::read_to_string(readme).ok()?;
    let at = text.to_lowercase().find("\n## licen")?;
    Some(text[at..].trim().to_owned())
}

/// PostgreSQL's parser and what it is bundled with, whose terms the crate names in a README and a source file only.
fn parser(directory: &Path) -> Result<Vec<String>> {
    let bundle = directory.join("libpg_query");
    let credits = section(&bundle.join("README.md")).context("libpg_query's README has no section on its licence")?;
    let hash = read(bundle.join("vendor/xxhash/xxhash.h"))?;
    let (hash, _) = hash.split_once("*/").context("xxhash.h does not begin with its terms")?;
    Ok(vec![credits, POSTGRESQL.to_owned(), BSD_3.to_owned(), format!("{hash}*/")])
}

fn licence_files(directory: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        let name = name.to_string_lossy().to_lowercase();
        let is_source = [".rs", ".c", ".h", ".cc", ".py", ".go", ".json"].iter().any(|ending| name.ends_with(ending));
        if path.is_dir() && depth > 0 {
            licence_files(&path, depth - 1, found)?;
        } else if path.is_file() && !is_source && NAMES.iter().any(|start| name.starts_with(start)) {
            found.push(path);
        }
    }
    Ok(())
}

/// For crates that name a licence and leave its text out.
fn usual(licence: &str) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    if licence.contains("Apache-2.0") {
        texts.push(read(Path::new("/usr/share/common-licenses/Apache-2.0"))?);
    }
    if licence.contains("MIT") {
        texts.push(MIT.to_owned());
    }
    Ok(texts)
}

fn read(path: impl AsRef<Path>) -> Result<String> {
    let bytes = fs::read(path.as_ref()).with_context(|| format!("cannot read {}", path.as_ref().display()))?;
    // Names of people in older encodings.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

// ---- libraries

fn packages(gateway: &Gateway, texts: &mut Texts) -> Result<String> {
    let mut packages: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for library in libraries(&gateway.stripped, gateway.architecture)? {
        let name = library.file_name().context("a library has a name")?.to_string_lossy().into_owned();
        packages.entry(owner(&library)?).or_default().insert(name);
    }
    packages.insert("ca-certificates".to_owned(), BTreeSet::from(["the image's certificate authorities".to_owned()]));
    let mut lines = String::new();
    for (package, files) in packages {
        let copyright = read(Path::new("/usr/share/doc").join(&package).join("copyright"))?;
        let mut numbers = vec![texts.number(&copyright).to_string()];
        for licence in COMMON.iter().filter(|licence| copyright.contains(&format!("common-licenses/{licence}"))) {
            let text = read(Path::new("/usr/share/common-licenses").join(licence))?;
            numbers.push(texts.number(&text).to_string());
        }
        let _ = writeln!(
            lines,
            "{package}: {} (text {})",
            files.into_iter().collect::<Vec<_>>().join(", "),
            numbers.join(", ")
        );
    }
    Ok(lines)
}

/// The package that has installed a library. Where `/lib` is `/usr/lib`, it may know it by either name.
fn owner(library: &Path) -> Result<String> {
    let usr = Path::new("/usr").join(library.strip_prefix("/").unwrap_or(library));
    let real = fs::canonicalize(library).with_context(|| format!("cannot find {}", library.display()))?;
    let bare = real.strip_prefix("/usr").map(|rest| Path::new("/").join(rest)).unwrap_or_else(|_| real.clone());
    for path in [library, &usr, &real, &bare] {
        let asked = Command::new("dpkg-query").arg("--search").arg(path).output().context("cannot run dpkg-query")?;
        let said = String::from_utf8_lossy(&asked.stdout).into_owned();
        if let Some((package, _)) = said.split_once(':').filter(|_| asked.status.success()) {
            return Ok(package.to_owned());
        }
    }
    bail!("no Debian package has installed {}, so its terms are not known", library.display())
}

/// Where it is, in a package and in the image.
const PLACE: &str = "/usr/share/doc/holdpoint/THIRD-PARTY";

/// How deep in a crate the sources lie that it bundles.
const DEPTH: usize = 3;

/// How files with terms begin, in lower case.
const NAMES: [&str; 6] = ["license", "licence", "copying", "copyright", "notice", "unlicense"];

/// What Debian's copyright files point to instead of repeating it. `GPL` and `LGPL` without a number are the newest.
const COMMON: [&str; 8] = ["Apache-2.0", "GPL-2", "GPL-3", "LGPL-2", "LGPL-2.1", "LGPL-3", "MPL-1.1", "MPL-2.0"];

const RULE: &str = "--------------------------------------------------------------------------------";

const HEAD: &str = "\
Holdpoint is under the Apache License, version 2.0. It is built from, and runs with, what is
listed here, each under its own terms; the texts with the numbers follow below.

It loads libnftnl, which is under the GNU General Public License, version 2 or later: whoever
passes on Holdpoint's binary does so under terms that satisfy that licence too. Holdpoint's own
sources, and the crates', are what `cargo vendor` collects at this version; the sources of the
shared libraries are those of the Debian packages named here.
";

const MIT: &str = include_str!("terms/mit.txt");

const BSD_3: &str = include_str!("terms/bsd-3.txt");
const POSTGRESQL: &str = include_str!("terms/postgresql.txt");
