//! What it takes to tell what a statement does.
//!
//! The classifier is the gateway's library, which this program does not link: a measurement in suite `effects` does, on
//! the statements and the catalog that suite has. It is built as `cargo xtask test` builds it.

use anyhow::Result;

use crate::command;

pub(super) fn measure() -> Result<()> {
    // The suite's lab wants it, although nothing here goes through it.
    command::holdpoint()?;
    let mut test = command::cargo();
    test.args(["test", "--quiet", "--workspace", "--test", "effects", "--", "--ignored", "--exact", "--nocapture"]);
    command::show(test.arg("costs::what_classifying_costs"))
}
