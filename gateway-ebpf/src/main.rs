//! The kernel programs.
//!
//! One connection's way: [`connect`] looks the destination up and, when it is intercepted, leaves what the kernel knows
//! with the socket and rewrites the destination to the gateway's listener; [`arrive`] files it under the addresses that
//! the gateway's accepted socket will show; the gateway takes it from there. [`peername`] lets the client see the address
//! that it dialled. What goes to a name server goes to the gateway as well, UDP by [`datagram`] and [`names`].
//!
//! Ways round that are refused: [`datagram`] (UDP to what is intercepted), [`bind`] (the gateway's own port), [`socket`]
//! (kinds of sockets that no hook sees later), [`unix`] (sockets through which others would dial), [`veth`] (what
//! packet sockets send out of a namespace). [`refusal`] counts.
//!
//! # Security
//!
//! Whatever fails here fails closed: `connect` answers `EPERM`, or the gateway finds no entry and closes.
//! No path leads from an intercept or a failure to a direct connection.
//!
//! Off the BPF target this is a stub, so that the workspace builds as one.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod arrive;
#[cfg(target_arch = "bpf")]
mod bind;
#[cfg(target_arch = "bpf")]
mod connect;
#[cfg(target_arch = "bpf")]
mod datagram;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod names;
#[cfg(target_arch = "bpf")]
mod peername;
#[cfg(target_arch = "bpf")]
mod process;
#[cfg(target_arch = "bpf")]
mod refusal;
#[cfg(target_arch = "bpf")]
mod socket;
#[cfg(target_arch = "bpf")]
mod unix;
#[cfg(target_arch = "bpf")]
mod veth;

/// The kernel offers the helpers that read its own structures to code that is also under the GPL.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() -> std::process::ExitCode {
    eprintln!("these are kernel programs: build them with `cargo xtask ebpf`; the gateway loads them");
    std::process::ExitCode::from(2)
}
