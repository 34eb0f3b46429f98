//! Redaction of values, pure: bytes in, bytes out. Where the values lie in a reply is each protocol's to know.
//!
//! [`rules`] says which columns a resource masks and how, [`detect`] finds secrets by their content and checksum,
//! [`method`] turns one value into its replacement, [`salt`] keys the hashes.
//!
//! # Security
//! What cannot be replaced by a valid value of its type becomes NULL; where two rules disagree the one that
//! reveals less wins. *Invariant:* nothing here knows a protocol, a connection or a clock.

pub mod detect;
pub mod method;
pub mod rules;
pub mod salt;

pub use detect::{Detector, Detectors, Found};
pub use method::{Kind, MASKED, Method, Replacement, apply};
pub use rules::{MaskRule, Masks, RuleError, Select, written};
pub use salt::Salt;
