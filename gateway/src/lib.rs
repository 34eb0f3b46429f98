//! Holdpoint: human approval in front of bots.

pub mod mask;
pub mod operation;
pub mod protocol;
