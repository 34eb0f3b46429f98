//! Puts the kernel programs where `include_bytes_aligned!` finds them.
//!
//! `cargo xtask ebpf` leaves the object in the target directory; a build without it carries none, says so here, and the
//! loader says so again. Nothing is compiled from here: the programs need another compiler.

use std::{env, fs, path::PathBuf};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // <target>/<profile>/build/<package>/out
    let target = out.ancestors().nth(4).expect("OUT_DIR lies four deep in the target directory");
    let built = target.join("ebpf/holdpoint.bpf.o");
    println!("cargo::rerun-if-changed={}", built.display());
    println!("cargo::rerun-if-changed=build.rs");
    let programs = fs::read(&built).unwrap_or_else(|_| {
        println!(
            "cargo::warning=no kernel programs at {}: this build cannot intercept; build with `cargo xtask build`",
            built.display()
        );
        Vec::new()
    });
    fs::write(out.join("holdpoint.bpf.o"), programs).expect("OUT_DIR is writable");
}
