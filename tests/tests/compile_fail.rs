//! Code that forwards without a receipt, or delivers without masking, does not compile.
//!
//! Each program here is given to the compiler as another crate that uses the gateway's library. The control shows that
//! the set-up compiles what is allowed, so that a refusal means what it says. Needs no root.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What every program begins with.
const USES: &str = r"
#![allow(unused)]
use holdpoint::{
    gate::{Cleared, Deliverable, Gate, Held, Judged, Language, Masked, Recorded, Reply, Settled, Settling},
    operation::{Frame, Operation},
    record::Receipt,
};
";

#[test]
fn the_road_itself_compiles() {
    let said = compile(
        r"
pub async fn pass<L: Language>(
    gate: &mut Gate,
    operation: Operation,
    frame: Frame,
    language: &L,
) -> std::io::Result<()> {
    let judged = gate.judge(operation, frame, language);
    let settled = match gate.settle(judged).await {
        Settling::Settled(settled) => *settled,
        Settling::Held(mut held) => {
            let ended = held.ended().await;
            held.released(gate.connection(), &ended)
        }
    };
    match gate.record(settled).await {
        Recorded::Cleared(cleared) => gate.forward(cleared),
        Recorded::Refused(_) => Ok(()),
    }
}
pub async fn answer<L: Language>(gate: &mut Gate, reply: &mut Reply, language: &mut L) {
    let Ok((masked, _)) = gate.mask(reply, language) else { return };
    let Ok(deliverable) = gate.record_reply(masked).await else { return };
    let _ = gate.deliver(deliverable);
}
",
    );
    assert_eq!(said, "", "the control does not compile");
}

#[test]
fn v17_nothing_is_forwarded_without_a_receipt() {
    refused(
        "E0451",
        "Cleared",
        "pub fn f(receipt: Receipt) -> Cleared { Cleared { wire: Default::default(), _receipt: receipt } }",
    );
    refused("E0451", "Receipt", "pub fn f() -> Receipt { Receipt { position: 1 } }");
    refused("E0308", "Cleared", "pub fn f(gate: &mut Gate, settled: Settled) { let _ = gate.forward(settled); }");
    refused(
        "E0308",
        "Cleared",
        "pub fn f(gate: &mut Gate, frame: Frame) { let _ = gate.forward(frame.wire().clone()); }",
    );
    refused("E0616", "Gate", "pub fn f(gate: &mut Gate) { let _ = &gate.upstream; }");
    refused(
        "E0382",
        "Cleared",
        "pub fn f(gate: &mut Gate, cleared: Cleared) { let _ = gate.forward(cleared); let _ = gate.forward(cleared); }",
    );
    refused("E0277", "Cleared", "pub fn f(cleared: Cleared) -> Cleared { Clone::clone(&cleared) }");
    refused("E0277", "Receipt", "pub fn f(receipt: Receipt) -> Receipt { Clone::clone(&receipt) }");
    refused("E0616", "Cleared", "pub fn f(cleared: Cleared) -> usize { cleared.wire.len() }");
}

#[test]
fn no_stage_before_the_record_is_skipped() {
    refused(
        "E0451",
        "Settled",
        "pub fn f(judged: Judged) -> Settled { Settled { judged, request: None, grant: None, refusal: None, cancelled: false } }",
    );
    refused("E0624", "yes", "pub fn f(judged: Judged) -> Settled { Settled::yes(judged, None) }");
    refused("E0308", "Settled", "pub async fn f(gate: &mut Gate, judged: Judged) { gate.record(judged).await; }");
    refused(
        "E0308",
        "Judged",
        "pub async fn f(gate: &mut Gate, operation: Operation) { gate.settle(operation).await; }",
    );
    refused(
        "E0382",
        "held",
        "pub fn f(held: Held, gate: &Gate, ended: &holdpoint::hold::Ended) { held.released(gate.connection(), ended); held.released(gate.connection(), ended); }",
    );
}

#[test]
fn v16_nothing_is_delivered_without_masking_and_recording() {
    refused(
        "E0451",
        "Deliverable",
        "pub fn f() -> Deliverable { Deliverable { wire: Default::default(), _receipt: None } }",
    );
    refused("E0451", "Masked", "pub fn f() -> Masked { Masked { wire: Default::default(), of: None, values: 0 } }");
    refused("E0308", "Deliverable", "pub fn f(gate: &mut Gate, masked: Masked) { let _ = gate.deliver(masked); }");
    refused("E0308", "Masked", "pub fn f(gate: &mut Gate, reply: Reply) { let _ = gate.record_reply(reply); }");
    refused("E0308", "Deliverable", "pub fn f(gate: &mut Gate, reply: Reply) { let _ = gate.deliver(reply); }");
    refused("E0616", "Gate", "pub fn f(gate: &mut Gate) { let _ = &gate.client; }");
    refused(
        "E0382",
        "Deliverable",
        "pub fn f(gate: &mut Gate, d: Deliverable) { let _ = gate.deliver(d); let _ = gate.deliver(d); }",
    );
}

/// The program must be refused with `code`, in a message that names `word`, and with no other error.
#[track_caller]
fn refused(code: &str, word: &str, program: &str) {
    let said = compile(program);
    let codes: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("error[")?.split(']').next()).collect();
    assert!(
        !codes.is_empty() && codes.iter().all(|found| *found == code),
        "wanted {code} for {program}\nfound {codes:?}\n{said}"
    );
    assert!(said.contains(word), "{word} is not named for {program}\n{said}");
}

/// What the compiler says; nothing when the program compiles.
fn compile(program: &str) -> String {
    let deps = dependencies();
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let source = dir.path().join("program.rs");
    fs::write(&source, format!("{USES}{program}")).expect("the directory is ours");
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--edition", "2024", "--crate-type", "lib", "--emit=metadata", "--cap-lints", "allow"]);
    rustc.arg("--extern").arg(format!("holdpoint={}", newest(&deps, "libholdpoint-").display()));
    rustc.arg("-L").arg(format!("dependency={}", deps.display())).arg("--out-dir").arg(dir.path()).arg(&source);
    let ran = rustc.output().expect("rustc is where cargo found it");
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    if ran.status.success() { String::new() } else { said }
}

/// Where cargo puts libraries: beside this test.
fn dependencies() -> PathBuf {
    let test = env::current_exe().expect("a running test has a path");
    test.parent().expect("a test is in a directory").to_owned()
}

fn newest(deps: &Path, prefix: &str) -> PathBuf {
    let entries = fs::read_dir(deps).expect("the directory of this test");
    let libraries = entries.flatten().map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with(prefix) && path.extension().is_some_and(|kind| kind == "rlib")
    });
    let changed = |path: &PathBuf| fs::metadata(path).and_then(|facts| facts.modified()).ok();
    libraries
        .max_by_key(changed)
        .unwrap_or_else(|| panic!("no {prefix}*.rlib in {}; run: cargo build -p gateway", deps.display()))
}
