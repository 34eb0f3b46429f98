//! Masks what a PostgreSQL backend answers, on every channel that carries data.
//!
//! [`catalog`] knows which stored columns are masked and which views show them, [`plan`] decides per result column,
//! [`rows`] rewrites a DataRow, [`copy`] a COPY stream, [`texts`] errors, notices and notifications.
//!
//! # Security
//! By lineage first: RowDescription names table and column by OID and number, so an alias hides nothing.
//! What the catalog does not know is treated as masked, and what cannot be parsed is withheld ([`Unmaskable`]).
//! *Limits*: a function's result has no lineage, and a table made from masked columns, or a column that one statement
//! wrote them to and another reads, is not masked; policy must hold `execute`, `schema` and such writes where that
//! matters. A predicate on a masked column tells of it by which rows come: `computed` in `when` names such columns.
//! A session in an encoding other than UTF-8 does not look into the catalog; without another one's look all is masked.

use std::sync::Arc;

use crate::mask::{Masks, Salt};

pub mod catalog;
pub mod copy;
mod lineage;
pub mod plan;
pub mod rows;
pub mod texts;
mod types;
mod value;

pub use catalog::{Catalog, CatalogReader, holds_samples};
pub use copy::{CopyFormat, CopyOut};
pub use plan::{CopyPlan, CopySource, Field, Plan, References};

/// A resource's masks with the node's salt: what every rewriting here needs.
#[derive(Debug, Clone)]
pub struct Masker {
    /// The rules.
    pub masks: Arc<Masks>,
    /// The key of hashes.
    pub salt: Salt,
}

/// Why a reply could not be masked. It must then be withheld, never passed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unmaskable {
    /// The backend's bytes are not what the protocol says.
    #[error("cannot mask, withheld: {0}")]
    Malformed(&'static str),
    /// A row has another number of columns than its description.
    #[error("cannot mask, withheld: a row has {got} columns where {expected} were described")]
    Columns {
        /// In the row.
        got: usize,
        /// In the description.
        expected: usize,
    },
    /// Something that is understood but not supported.
    #[error("cannot mask, withheld: {0}; change the statement or ask for an exception to the resource's mask rules")]
    Unsupported(String),
    /// More was held back than may be.
    #[error("cannot mask, withheld: one row of COPY is longer than {0} bytes")]
    TooLong(usize),
}

/// Reads within one message; every step is checked.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Unmaskable> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(Unmaskable::Malformed("a message ends inside a value"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unmaskable> {
        Ok(self.take(N)?.try_into().expect("take gives what was asked for"))
    }

    fn byte(&mut self) -> Result<u8, Unmaskable> {
        Ok(self.array::<1>()?[0])
    }

    fn i16(&mut self) -> Result<i16, Unmaskable> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    fn i32(&mut self) -> Result<i32, Unmaskable> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, Unmaskable> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// A count or length that must not be negative.
    fn count(&mut self) -> Result<usize, Unmaskable> {
        usize::try_from(self.i16()?).map_err(|_| Unmaskable::Malformed("a count is negative"))
    }

    /// Length and bytes of a value; `None` is NULL.
    fn value(&mut self) -> Result<Option<&'a [u8]>, Unmaskable> {
        match self.i32()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| Unmaskable::Malformed("a length is negative"))?;
                self.take(length).map(Some)
            }
        }
    }

    /// A string up to its zero byte.
    fn string(&mut self) -> Result<&'a [u8], Unmaskable> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|byte| *byte == 0).ok_or(Unmaskable::Malformed("a string has no end"))?;
        self.at += end + 1;
        Ok(&rest[..end])
    }

    fn is_done(&self) -> bool {
        self.at == self.bytes.len()
    }

    fn done(&self) -> Result<(), Unmaskable> {
        if self.is_done() { Ok(()) } else { Err(Unmaskable::Malformed("a message is longer than its content")) }
    }
}

/// The body of one whole message of type `tag` (protocol: message formats): the length must say exactly what is there.
fn body(message: &[u8], tag: u8) -> Result<Cursor<'_>, Unmaskable> {
    let mut cursor = Cursor::new(message);
    if cursor.byte()? != tag {
        return Err(Unmaskable::Malformed("a message is of another type"));
    }
    let length = usize::try_from(cursor.i32()?).map_err(|_| Unmaskable::Malformed("a length is negative"))?;
    if length + 1 != message.len() {
        return Err(Unmaskable::Malformed("a message's length is not its size"));
    }
    Ok(cursor)
}

/// Writes the length of the message that starts at `start` in `out` and ends with it.
fn close(out: &mut bytes::BytesMut, start: usize) -> Result<(), Unmaskable> {
    let length =
        i32::try_from(out.len() - start - 1).map_err(|_| Unmaskable::Malformed("a masked message is too long"))?;
    out[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests;
