//! Holdpoint: human approval in front of bots.
//!
//! One operation's way through the gateway:
//!
//! 1. The kernel programs ([`intercept`]) turn a guarded workload's `connect` to the gateway and keep where it meant to go.
//!    What is guarded comes and goes ([`guards`]); the gateway listens in every network namespace that a guarded process
//!    is in ([`namespaces`]).
//! 2. [`accept`] asks them who it is ([`workload`]) and which resource it meant ([`resources`]), and hands the stream to
//!    the resource's [`protocol`].
//! 3. The protocol's dialect cuts one request out of the stream: an [`operation`] to judge, and the very bytes of it.
//! 4. The [`gate`] judges it by [`policy`], waits for people at the desk ([`hold`]) where the verdict says so,
//!    puts it into the [`record`], and only then forwards those bytes.
//! 5. What comes back goes through the gate too: through the [`mask`]s, into the record, then to the client.

pub mod operation;
pub mod passkey;

pub mod config;
pub mod credentials;
pub mod crowd;
pub mod damage;
pub mod drain;
pub mod net;
pub mod visible;

pub mod mask;
pub mod policy;
pub mod record;
pub mod workload;

pub mod gate;
pub mod hold;
pub mod intercept;
pub mod people;
pub mod protocol;
pub mod resources;

pub mod discover;
pub mod dns;

pub mod accept;
pub mod assess;
pub mod guards;
pub mod live;
pub mod namespaces;
pub mod rulebook;

pub mod admin;
pub mod app;
pub mod channels;
pub mod cli;
pub mod console;
