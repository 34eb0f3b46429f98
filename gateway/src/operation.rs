//! The shared vocabulary: what a bot asked for, in words that every protocol, rule, record and page uses alike.
//!
//! This module knows no protocol, no policy and no store; everything else knows it.
//! An [`Operation`] is the judged view; the [`Frame`] beside it holds the very bytes that will be forwarded.

use std::{borrow::Cow, collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use bytes::Bytes;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

mod impact;

pub use impact::{Estimate, Impact, Ran, Touched};

/// A protocol's name as people write it in a resource file (`postgres`). Not an enum: adding a protocol changes no other layer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProtocolName(Cow<'static, str>);

impl ProtocolName {
    /// A protocol's own constant.
    pub const fn from_static(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for ProtocolName {
    fn from(name: String) -> Self {
        Self(Cow::Owned(name))
    }
}

impl fmt::Display for ProtocolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an operation does to the world: the closed list that every protocol classifies into and every rule matches on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Effect {
    /// Returns stored data.
    Read = 0,
    /// Adds or changes stored data.
    Write = 1,
    /// Removes stored data.
    Delete = 2,
    /// Changes the shape of stored data.
    Schema = 3,
    /// Changes who may do what, or as whom.
    Privilege = 4,
    /// Runs code whose effects are its own.
    Execute = 5,
    /// Moves data in or out in bulk, or between systems.
    Transfer = 6,
    /// Changes only the connection's own state.
    Session = 7,
    /// Operates the backend itself.
    Admin = 8,
    /// The classifier could not see through it. Holds by default.
    Unknown = 9,
    /// Computes with masked values, or tests them: they shape the answer without being in it. Holds by default.
    Reveal = 10,
}

impl Effect {
    /// All effects, in the order in which people see them.
    pub const ALL: [Effect; 11] = [
        Effect::Read,
        Effect::Write,
        Effect::Delete,
        Effect::Schema,
        Effect::Privilege,
        Effect::Execute,
        Effect::Transfer,
        Effect::Session,
        Effect::Admin,
        Effect::Reveal,
        Effect::Unknown,
    ];

    /// Whether only a rule that names it allows it: otherwise a person is asked, whatever the default.
    pub const fn must_be_named(self) -> bool {
        matches!(self, Effect::Unknown | Effect::Reveal)
    }

    /// The effect's word in policies and on pages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Effect::Read => "read",
            Effect::Write => "write",
            Effect::Delete => "delete",
            Effect::Schema => "schema",
            Effect::Privilege => "privilege",
            Effect::Execute => "execute",
            Effect::Transfer => "transfer",
            Effect::Session => "session",
            Effect::Admin => "admin",
            Effect::Unknown => "unknown",
            Effect::Reveal => "reveal",
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The word is no [`Effect`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an effect; expected one of read, write, delete, schema, privilege, execute, transfer, session, admin, reveal, unknown"
)]
pub struct NoSuchEffect(pub String);

impl FromStr for Effect {
    type Err = NoSuchEffect;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Effect::ALL.into_iter().find(|effect| effect.as_str() == word).ok_or_else(|| NoSuchEffect(word.to_owned()))
    }
}

/// A set of [`Effect`]s; one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Effects(u16);

impl Effects {
    /// No effect at all.
    pub const NONE: Effects = Effects(0);

    /// The set of one.
    pub const fn of(effect: Effect) -> Self {
        Self(1 << effect as u8)
    }

    /// This set with `effect` in it.
    #[must_use]
    pub const fn with(self, effect: Effect) -> Self {
        Self(self.0 | 1 << effect as u8)
    }

    /// Adds `effect`.
    pub fn insert(&mut self, effect: Effect) {
        self.0 |= 1 << effect as u8;
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Effects) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `effect` is in the set.
    pub const fn contains(self, effect: Effect) -> bool {
        self.0 & 1 << effect as u8 != 0
    }

    /// Whether the sets share an effect.
    pub const fn intersects(self, other: Effects) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether every effect here is also in `other`.
    pub const fn within(self, other: Effects) -> bool {
        self.0 & !other.0 == 0
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The effects, in the order of [`Effect::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Effect> {
        Effect::ALL.into_iter().filter(move |effect| self.contains(*effect))
    }

    /// The set as the record stores it: bit *n* is the effect with discriminant *n*.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The set from the record's bits; bits that no effect owns become [`Effect::Unknown`], so a newer record never reads as harmless.
    pub const fn from_bits(bits: u16) -> Self {
        let known = bits & 0x7ff;
        if known == bits { Self(known) } else { Self(known).with(Effect::Unknown) }
    }
}

impl FromIterator<Effect> for Effects {
    fn from_iter<I: IntoIterator<Item = Effect>>(effects: I) -> Self {
        effects.into_iter().fold(Effects::NONE, Effects::with)
    }
}

impl fmt::Display for Effects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.iter().map(Effect::as_str).collect();
        f.write_str(&words.join(", "))
    }
}

impl fmt::Debug for Effects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

impl Serialize for Effects {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl JsonSchema for Effects {
    fn schema_name() -> Cow<'static, str> {
        "Effects".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": generator.subschema_for::<Effect>(), "uniqueItems": true })
    }
}

impl<'de> Deserialize<'de> for Effects {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Effect>::deserialize(deserializer)?.into_iter().collect())
    }
}

/// A thing that an operation touches, named as the operation names it (`public.orders`, kind `table`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Object {
    /// The protocol's word for the kind of thing: `table`, `function`, `role`, `file`, …
    pub kind: Cow<'static, str>,
    /// The schema or namespace, where the operation states one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub schema: Option<String>,
    /// The name.
    pub name: String,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{} {schema}.{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// What the classifier made of a statement: shared by every operation with the same text, so the hot path clones a pointer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Meaning {
    /// What it does.
    pub effects: Effects,
    /// What it touches.
    pub objects: Vec<Object>,
    /// Why it is [`Effect::Unknown`], each in words a person understands. Empty unless it is.
    pub unknown: Vec<String>,
    /// Further facts that `when` can test, by name (`tables`, `functions`, `statements`, …). Each protocol documents its own.
    pub fields: BTreeMap<&'static str, serde_json::Value>,
}

/// One bound parameter, decoded no further than its type's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// The declared type (a name, or the protocol's number for it); empty when the client left it to the backend.
    pub kind: String,
    /// Whether `value` is in the protocol's binary form.
    pub binary: bool,
    /// The value as sent; `None` is SQL's NULL.
    pub value: Option<Bytes>,
}

/// The session's state that gives an operation its meaning (database, role, search path): name → value, part of the digest.
pub type State = BTreeMap<Cow<'static, str>, String>;

/// One thing that a bot asks of a backend. Judged, recorded, and shown to people.
#[derive(Debug, Clone)]
pub struct Operation {
    /// The protocol's own word for the request: `query`, `execute`, `connect`, `cancel`, …
    pub kind: Cow<'static, str>,
    /// What a person reads: the statement, exactly as sent.
    pub text: Bytes,
    /// Bound parameters, in order.
    pub parameters: Vec<Parameter>,
    /// What the classifier made of it.
    pub meaning: Arc<Meaning>,
    /// The session's state at that moment.
    pub state: Arc<State>,
}

/// The very bytes that will be forwarded, with what the record may keep of them.
#[derive(Debug, Clone)]
pub struct Frame {
    wire: Bytes,
    secret: Option<&'static str>,
}

impl Frame {
    /// Bytes that the record keeps as they are.
    pub fn new(wire: Bytes) -> Self {
        Self { wire, secret: None }
    }

    /// Bytes that carry a secret: the record keeps `label` and the length, never the bytes.
    pub fn secret(wire: Bytes, label: &'static str) -> Self {
        Self { wire, secret: Some(label) }
    }

    /// The bytes as the client sent them.
    pub fn wire(&self) -> &Bytes {
        &self.wire
    }

    /// What the record stores in their place.
    pub fn recorded(&self) -> Bytes {
        match self.secret {
            None => self.wire.clone(),
            Some(label) => Bytes::from(format!("[{label}, {} bytes left out]", self.wire.len())),
        }
    }
}

/// A SHA-256. What an approver approves and what links the record's entries.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Digest {
    fn schema_name() -> Cow<'static, str> {
        "Digest".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9a-f]{64}$", "description": "SHA-256, in hexadecimal" })
    }
}

/// What operations have in common that differ only in their values: what a grant covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// The protocol's own name for it, which people can look for elsewhere.
    pub fingerprint: String,
    /// Everything that gives the operation its meaning but its values and [`Operation::state`].
    pub form: Digest,
    /// The values in it, in order: literals first, then bound parameters. A person can read each.
    pub values: Vec<Bytes>,
    /// Whether every value is data, and none could name something or be code.
    pub only_data: bool,
}

/// An identifier that sorts by time (UUIDv7), of something `T`: a session, an operation, a request.
///
/// People see and type a short form: the last eight hex digits, which are random.
pub struct Id<T>(uuid::Uuid, std::marker::PhantomData<fn() -> T>);

impl<T> Id<T> {
    /// A new one, for now.
    pub fn now() -> Self {
        Self(uuid::Uuid::now_v7(), std::marker::PhantomData)
    }

    /// From the record's sixteen bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(uuid::Uuid::from_bytes(bytes), std::marker::PhantomData)
    }

    /// The record's sixteen bytes, big-endian: they sort as the identifier does.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The short form that people see and type.
    pub fn short(&self) -> String {
        let hex = self.0.simple().to_string();
        hex[hex.len() - 8..].to_owned()
    }

    /// Whether `typed` (full or short form, any case, dashes or none) names this one.
    pub fn is_named(&self, typed: &str) -> bool {
        // Every open request may be asked this: nothing is allocated.
        let mut buffer = uuid::Uuid::encode_buffer();
        let hex = self.0.simple().encode_lower(&mut buffer).bytes();
        let typed = typed.bytes().filter(|byte| *byte != b'-').map(|byte| byte.to_ascii_lowercase());
        let length = typed.clone().count();
        (length == hex.len() || (4..=8).contains(&length)) && typed.rev().eq(hex.rev().take(length))
    }
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Id<T> {}
impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<T> Eq for Id<T> {}
impl<T> PartialOrd for Id<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Id<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}
impl<T> std::hash::Hash for Id<T> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}
impl<T> fmt::Display for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
impl<T> FromStr for Id<T> {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.parse()?, std::marker::PhantomData))
    }
}
impl<T> Serialize for Id<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}
impl<T> JsonSchema for Id<T> {
    fn schema_name() -> Cow<'static, str> {
        "Id".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "uuid", "description": "A UUIDv7: sorts by time" })
    }
}
impl<'de, T> Deserialize<'de> for Id<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(uuid::Uuid::deserialize(deserializer)?, std::marker::PhantomData))
    }
}

/// Marks an [`Id`] of a guarded connection's life: one session, one recording.
#[derive(Debug)]
pub enum SessionMark {}
/// Marks an [`Id`] of one operation.
#[derive(Debug)]
pub enum OperationMark {}
/// Marks an [`Id`] of one approval request.
#[derive(Debug)]
pub enum RequestMark {}

/// Marks an [`Id`] of one grant.
#[derive(Debug)]
pub enum GrantMark {}
/// Marks an [`Id`] of one delegation.
#[derive(Debug)]
pub enum DelegationMark {}
/// Marks an [`Id`] of one review.
#[derive(Debug)]
pub enum ReviewMark {}

/// Names a session.
pub type SessionId = Id<SessionMark>;
/// Names an operation.
pub type OperationId = Id<OperationMark>;
/// Names an approval request.
pub type RequestId = Id<RequestMark>;
/// Names a grant.
pub type GrantId = Id<GrantMark>;
/// Names what an approver lent to somebody else.
pub type DelegationId = Id<DelegationMark>;
/// Names what somebody else must write after the glass was broken.
pub type ReviewId = Id<ReviewMark>;

#[cfg(test)]
mod tests;
