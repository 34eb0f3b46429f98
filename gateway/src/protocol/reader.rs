//! Reading inside one frame: bounded, with no index that can be out of range and nothing left over unnoticed.

/// A cursor over one frame's body.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

/// A frame ends before, or after, what it says it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutOfFrame {
    /// It ends inside a field.
    #[error("a field reaches past the end of its message")]
    Short,
    /// A string has no end.
    #[error("a string in a message has no terminating zero")]
    Unterminated,
    /// Something follows the last field.
    #[error("{0} bytes follow the last field of a message")]
    Left(usize),
}

impl<'a> Reader<'a> {
    /// Over `body`.
    pub fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// The frame ends before.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], OutOfFrame> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(OutOfFrame::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    /// One byte.
    ///
    /// # Errors
    /// The frame ends before.
    pub fn byte(&mut self) -> Result<u8, OutOfFrame> {
        Ok(self.array::<1>()?[0])
    }

    /// A big-endian 16-bit count or code.
    ///
    /// # Errors
    /// The frame ends before.
    pub fn i16(&mut self) -> Result<i16, OutOfFrame> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    /// A big-endian 32-bit length or code.
    ///
    /// # Errors
    /// The frame ends before.
    pub fn i32(&mut self) -> Result<i32, OutOfFrame> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// A big-endian 32-bit unsigned number.
    ///
    /// # Errors
    /// The frame ends before.
    pub fn u32(&mut self) -> Result<u32, OutOfFrame> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// The bytes up to a zero, without it.
    ///
    /// # Errors
    /// There is none.
    pub fn cstr(&mut self) -> Result<&'a [u8], OutOfFrame> {
        let end = self.rest.iter().position(|byte| *byte == 0).ok_or(OutOfFrame::Unterminated)?;
        let text = self.take(end)?;
        self.take(1)?;
        Ok(text)
    }

    /// How many bytes are left: the bound for any count that claims to say how many items follow.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// Something is.
    pub fn finish(self) -> Result<(), OutOfFrame> {
        if self.rest.is_empty() { Ok(()) } else { Err(OutOfFrame::Left(self.rest.len())) }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], OutOfFrame> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(OutOfFrame::Short)?;
        self.rest = rest;
        Ok(*taken)
    }
}
