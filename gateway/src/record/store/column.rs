//! Column families as types: fixed-width big-endian keys, so that byte order is the order that scans want.

use crate::{
    operation::{Id, RequestId, SessionId},
    record::session::Summary,
};

/// One column family.
pub(in crate::record) trait Column {
    /// Its name in RocksDB, and its place in [`NAMES`].
    const NAME: &'static str;
    type Key: Key;
    type Value: Value;
}

/// A key of fixed width.
pub(in crate::record) trait Key: Sized {
    type Bytes: AsRef<[u8]>;
    fn to_bytes(&self) -> Self::Bytes;
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

/// A value. Decoding says in words what is wrong.
pub(in crate::record) trait Value: Sized {
    fn to_bytes(&self) -> Vec<u8>;
    fn from_bytes(bytes: Vec<u8>) -> Result<Self, String>;
}

/// Every column family of the current format.
pub(in crate::record) const NAMES: [&str; 9] = [
    Meta::NAME,
    Entries::NAME,
    Sessions::NAME,
    SessionEntries::NAME,
    OpenRequests::NAME,
    RequestEntries::NAME,
    DeskEntries::NAME,
    Cursors::NAME,
    Announced::NAME,
];

/// Position → sealed entry: the chain itself. All else can be made again from it.
pub(in crate::record) enum Entries {}
/// Session → its summary.
pub(in crate::record) enum Sessions {}
/// Session and position → nothing: which entries belong to a session.
pub(in crate::record) enum SessionEntries {}
/// Request → position of its `Requested`, while it is open; grants, delegations and reviews likewise.
pub(in crate::record) enum OpenRequests {}
/// Request and position → nothing: everything that happened to it. Grants likewise.
pub(in crate::record) enum RequestEntries {}
/// Position → nothing: the entries that people may want to hear of. See `outbox::concerns_the_desk`.
pub(in crate::record) enum DeskEntries {}
/// Channel → position of the last entry that it has dealt with. Not made from the chain, and no loss: without it a
/// channel begins with what comes next.
pub(in crate::record) enum Cursors {}
/// Channel and request → what the channel keeps of its message about it, while there may be more to say.
pub(in crate::record) enum Announced {}
/// Facts about the store: format, node key, time of creation.
pub(in crate::record) enum Meta {}

impl Column for Entries {
    const NAME: &'static str = "entries";
    type Key = u64;
    type Value = Vec<u8>;
}
impl Column for Sessions {
    const NAME: &'static str = "sessions";
    type Key = SessionId;
    type Value = Summary;
}
impl Column for SessionEntries {
    const NAME: &'static str = "session_entries";
    type Key = (SessionId, u64);
    type Value = ();
}
impl Column for OpenRequests {
    const NAME: &'static str = "open_requests";
    type Key = RequestId;
    type Value = u64;
}
impl Column for RequestEntries {
    const NAME: &'static str = "request_entries";
    type Key = (RequestId, u64);
    type Value = ();
}
impl Column for DeskEntries {
    const NAME: &'static str = "desk_entries";
    type Key = u64;
    type Value = ();
}
impl Column for Cursors {
    const NAME: &'static str = "cursors";
    type Key = ChannelKey;
    type Value = u64;
}
impl Column for Announced {
    const NAME: &'static str = "announced";
    type Key = (ChannelKey, RequestId);
    type Value = Vec<u8>;
}
impl Column for Meta {
    const NAME: &'static str = "meta";
    type Key = Fact;
    type Value = Vec<u8>;
}

/// A key of [`Meta`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::record) enum Fact {
    /// The format version, four bytes.
    Format,
    /// The node's random key, thirty-two bytes.
    Node,
    /// When the store was made, nanoseconds since 1970, eight bytes.
    Created,
}

impl Key for Fact {
    type Bytes = [u8; 1];

    fn to_bytes(&self) -> [u8; 1] {
        match self {
            Fact::Format => *b"f",
            Fact::Node => *b"n",
            Fact::Created => *b"c",
        }
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes {
            b"f" => Some(Fact::Format),
            b"n" => Some(Fact::Node),
            b"c" => Some(Fact::Created),
            _ => None,
        }
    }
}

impl Key for u64 {
    type Bytes = [u8; 8];

    fn to_bytes(&self) -> [u8; 8] {
        self.to_be_bytes()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(u64::from_be_bytes)
    }
}

impl<T> Key for Id<T> {
    type Bytes = [u8; 16];

    fn to_bytes(&self) -> [u8; 16] {
        *self.as_bytes()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Id::from_bytes)
    }
}

impl<T> Key for (Id<T>, u64) {
    type Bytes = [u8; 24];

    fn to_bytes(&self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(self.0.as_bytes());
        bytes[16..].copy_from_slice(&self.1.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (id, position) = bytes.split_first_chunk::<16>()?;
        Some((Id::from_bytes(*id), Key::from_bytes(position)?))
    }
}

/// A channel's name, hashed to a fixed width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::record) struct ChannelKey(pub(in crate::record) [u8; 16]);

impl Key for ChannelKey {
    type Bytes = [u8; 16];

    fn to_bytes(&self) -> [u8; 16] {
        self.0
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl<T> Key for (ChannelKey, Id<T>) {
    type Bytes = [u8; 32];

    fn to_bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&self.0.0);
        bytes[16..].copy_from_slice(self.1.as_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (channel, id) = bytes.split_first_chunk::<16>()?;
        Some((ChannelKey(*channel), Key::from_bytes(id)?))
    }
}

impl Value for () {
    fn to_bytes(&self) -> Vec<u8> {
        Vec::new()
    }

    fn from_bytes(bytes: Vec<u8>) -> Result<Self, String> {
        if bytes.is_empty() { Ok(()) } else { Err("an index entry with a value".to_owned()) }
    }
}

impl Value for u64 {
    fn to_bytes(&self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }

    fn from_bytes(bytes: Vec<u8>) -> Result<Self, String> {
        Key::from_bytes(&bytes).ok_or_else(|| "a position that is not eight bytes".to_owned())
    }
}

impl Value for Vec<u8> {
    fn to_bytes(&self) -> Vec<u8> {
        self.clone()
    }

    fn from_bytes(bytes: Vec<u8>) -> Result<Self, String> {
        Ok(bytes)
    }
}

impl Value for Summary {
    fn to_bytes(&self) -> Vec<u8> {
        minicbor::to_vec(self).expect("a vector takes every byte and a summary's encoders do not fail")
    }

    fn from_bytes(bytes: Vec<u8>) -> Result<Self, String> {
        minicbor::decode(&bytes).map_err(|bad| bad.to_string())
    }
}
