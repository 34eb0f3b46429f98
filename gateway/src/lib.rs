//! Holdpoint: human approval in front of bots.

pub mod operation;
