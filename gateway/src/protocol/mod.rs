//! Protocols.
pub mod postgres;
