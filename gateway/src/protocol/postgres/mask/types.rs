//! What a type's OID says about masking a value of it (`pg_type.dat`; these OIDs never change).

use crate::mask::Kind;

/// How a value of a type is searched by detectors, and whether a part of it can be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scan {
    /// Cannot hold what detectors look for.
    Never,
    /// Text: parts are replaced.
    Text,
    /// Text that must stay JSON.
    Json,
    /// The same behind a version byte in binary form.
    Jsonb,
    /// An eight-byte integer.
    Integer,
    /// Base-10000 digits in binary form.
    Numeric,
    /// An eight-byte float.
    Float,
    /// Bytes; hexadecimal in text form.
    Bytea,
    /// An array of text: parts of its text form are replaced.
    TextArray,
    /// Anything else, nested or not: a hit makes the whole NULL.
    Opaque,
    /// The type is not known (COPY): judged by what the value looks like.
    Unknown,
}

pub(super) fn kind(type_oid: u32) -> Kind {
    match type_oid {
        19 | 25 | 705 | 1042 | 1043 => Kind::Text,
        18 => Kind::Char,
        114 | 3802 => Kind::Json,
        2950 => Kind::Uuid,
        17 => Kind::Bytes,
        20 | 21 | 23 | 26 | 700 | 701 | 790 | 1700 => Kind::Number,
        _ => Kind::Other,
    }
}

pub(super) fn scan(type_oid: u32) -> Scan {
    match type_oid {
        0 => Scan::Unknown,
        // xml and cstring as well: their text is theirs.
        19 | 25 | 142 | 705 | 1042 | 1043 | 2275 => Scan::Text,
        114 => Scan::Json,
        3802 => Scan::Jsonb,
        20 => Scan::Integer,
        1700 => Scan::Numeric,
        701 => Scan::Float,
        17 => Scan::Bytea,
        1003 | 1009 | 1014 | 1015 => Scan::TextArray,
        // bool, "char", int2, int4, oid, tid, xid, cid, float4, money, network addresses, dates and times, uuid, lsn.
        16 | 18 | 21 | 23 | 26..=29 | 700 | 790 | 650 | 829 | 869 | 774 => Scan::Never,
        1082 | 1083 | 1114 | 1184 | 1186 | 1266 | 2950 | 3220 => Scan::Never,
        _ => Scan::Opaque,
    }
}

/// `jsonb`, whose binary form starts with a version byte (1).
pub(super) const JSONB: u32 = 3802;
