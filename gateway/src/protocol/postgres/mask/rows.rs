//! Rewrites DataRow messages by a [`Plan`].

use bytes::BytesMut;

use super::{Masker, Plan, Unmaskable, body, close, value::Outcome};
use crate::mask::Replacement;

impl Masker {
    /// Appends one whole DataRow message to `out`, masked, and says how many values or parts of values were.
    ///
    /// Nothing is allocated beyond `out` while nothing is found.
    ///
    /// # Errors
    /// When the message is not a row of this plan; `out` is then as before, and the row must be withheld.
    pub fn row(&self, plan: &Plan, message: &[u8], out: &mut BytesMut) -> Result<u32, Unmaskable> {
        let start = out.len();
        let result = self.rewrite(plan, message, out);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    fn rewrite(&self, plan: &Plan, message: &[u8], out: &mut BytesMut) -> Result<u32, Unmaskable> {
        let start = out.len();
        let mut cursor = body(message, b'D')?;
        let count = cursor.count()?;
        if let Some(expected) = plan.columns().map(<[_]>::len).filter(|expected| *expected != count) {
            return Err(Unmaskable::Columns { got: count, expected });
        }
        let mut masked = 0_u32;
        let mut copied = 0;
        for place in 0..count {
            let field = cursor.at;
            let Some(value) = cursor.value()? else { continue };
            let outcome = match plan.columns() {
                Some(columns) => self.value(columns[place], value),
                None => Outcome::Changed(Replacement::Null, 1),
            };
            if let Outcome::Changed(replacement, hits) = outcome {
                out.extend_from_slice(&message[copied..field]);
                write_value(&replacement, out)?;
                copied = cursor.at;
                masked = masked.saturating_add(hits);
            }
        }
        cursor.done()?;
        out.extend_from_slice(&message[copied..]);
        close(out, start)?;
        Ok(masked)
    }
}

/// Length and bytes, or -1.
pub(super) fn write_value(replacement: &Replacement, out: &mut BytesMut) -> Result<(), Unmaskable> {
    match replacement {
        Replacement::Null => out.extend_from_slice(&(-1_i32).to_be_bytes()),
        Replacement::Value(value) => {
            let length = i32::try_from(value.len()).map_err(|_| Unmaskable::Malformed("a masked value is too long"))?;
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(value);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
