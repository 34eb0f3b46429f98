//! Proposes masks for a resource: what its catalog calls things, and what sampled values look like.
//!
//! [`catalog`] is what a backend says of itself, [`clue`] the one table of what to look for, [`shape`] the looks of single
//! values, [`tally`] counts them, [`judge`] weighs a column's evidence, [`proposal`] makes lines of all that. [`postgres`]
//! asks a server.
//!
//! # Security
//! *Invariant:* a sampled value goes no further than [`tally`], which keeps counts. What is written has names out of the
//! catalog, our own words and numbers in it, and nothing else.
//!
//! Nothing here decides anything for a gateway: a person edits what comes out, and puts it where policies are.

pub mod catalog;
mod clue;
mod judge;
pub mod postgres;
pub mod proposal;
mod shape;
mod tally;
#[cfg(test)]
mod tests;

pub use proposal::{Proposal, propose};
pub use tally::Tally;
