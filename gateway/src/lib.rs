//! Holdpoint: human approval in front of bots.

pub mod intercept;
pub mod mask;
pub mod operation;
pub mod policy;
pub mod record;
pub mod workload;
pub mod protocol;
