//! PostgreSQL's message format, protocol 3.x: cutting messages out of a stream, and writing the few that the gateway
//! says itself. ("Frontend/Backend Protocol", chapters "Message Formats" and "Error and Notice Message Fields".)

use bytes::{BufMut, Bytes, BytesMut};

use super::scram::nonce;
use crate::{operation::Parameter, protocol::Malformed};

/// The longest message taken from a client, header included, in bytes. PostgreSQL's own limit is 1 GiB; a message is
/// judged whole, so this bounds what one connection can make the gateway hold.
pub(super) const LONGEST: usize = 64 * 1024 * 1024;

/// The longest startup packet: PostgreSQL's `MAX_STARTUP_PACKET_LENGTH`.
pub(super) const LONGEST_STARTUP: usize = 10_000;

/// A typed message's length, header included, once its header is there.
///
/// # Errors
/// The length is not one that a message can have, or is longer than `longest`.
pub(super) fn message_len(buffer: &[u8], longest: usize) -> Result<Option<usize>, Malformed> {
    let Some(header) = buffer.first_chunk::<5>() else { return Ok(None) };
    let [kind, a, b, c, d] = *header;
    let length = i32::from_be_bytes([a, b, c, d]);
    let length = usize::try_from(length).ok().filter(|length| *length >= 4).ok_or_else(|| {
        Malformed(format!("a message of type {:?} says that it is {length} bytes long", char::from(kind)))
    })?;
    if length >= longest {
        let kind = char::from(kind);
        return Err(Malformed(format!(
            "a message of type {kind:?} is {length} bytes long; at most {longest} are taken"
        )));
    }
    Ok(Some(length + 1))
}

/// Takes the message with which a client answers authentication, once it is whole. Nothing else may come then: a second
/// startup message would be somebody else's session under this one's name.
///
/// # Errors
/// It is another message, or too long.
pub(super) fn client_proof(input: &mut BytesMut) -> Result<Option<Bytes>, Malformed> {
    let Some(length) = message_len(input, LONGEST_STARTUP)? else { return Ok(None) };
    if input[0] != b'p' {
        return Err(Malformed(format!("a message of type {:?} came before authentication", char::from(input[0]))));
    }
    Ok((input.len() >= length).then(|| input.split_to(length).freeze()))
}

/// Appends one typed message, its length filled in.
pub(super) fn message(out: &mut BytesMut, kind: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(kind);
    let start = out.len();
    out.put_i32(0);
    body(out);
    let length = i32::try_from(out.len() - start).expect("what the gateway says itself is short");
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Asks `sql` by messages that leave the client's unnamed statement and portal alone, as a simple query would not.
pub(super) fn ask_apart(out: &mut BytesMut, apart: &Apart, sql: &str) {
    ask(out, apart, sql.as_bytes(), &[], &[]);
    message(out, b'S', |_| {});
}

/// The same with parameters, for several in one go: without the `Sync` that ends them.
pub(super) fn ask(out: &mut BytesMut, apart: &Apart, sql: &[u8], types: &[u32], parameters: &[Parameter]) {
    let close = |out: &mut BytesMut, kind: u8| {
        message(out, b'C', |out| {
            out.put_u8(kind);
            out.put_slice(&apart.0);
        });
    };
    // As many as a client's own `Parse` and `Bind` can have.
    let count = |many: usize| u16::try_from(many).expect("the client's own message had no more");
    // One that an earlier failure may have left.
    close(out, b'S');
    message(out, b'P', |out| {
        out.put_slice(&apart.0);
        out.put_slice(sql);
        out.put_u8(0);
        out.put_u16(count(types.len()));
        types.iter().for_each(|kind| out.put_u32(*kind));
    });
    message(out, b'B', |out| {
        out.put_slice(&apart.0);
        out.put_slice(&apart.0);
        out.put_u16(count(parameters.len()));
        parameters.iter().for_each(|parameter| out.put_u16(u16::from(parameter.binary)));
        out.put_u16(count(parameters.len()));
        for parameter in parameters {
            match &parameter.value {
                None => out.put_i32(-1),
                Some(value) => {
                    out.put_u32(u32::try_from(value.len()).expect("the client's own message was no longer"));
                    out.put_slice(value);
                }
            }
        }
        out.put_u16(0);
    });
    message(out, b'E', |out| {
        out.put_slice(&apart.0);
        out.put_i32(0);
    });
    close(out, b'P');
    close(out, b'S');
}

/// A parameter in text form whose type the backend finds out.
pub(super) fn text_parameter(value: String) -> Parameter {
    Parameter { kind: String::new(), binary: false, value: Some(value.into()) }
}

/// The SQLSTATE and the primary message of an `ErrorResponse`; empty where it has none.
pub(super) fn said(message: &[u8]) -> (String, String) {
    let (mut code, mut words) = (String::new(), String::new());
    let mut fields = message.get(5..).unwrap_or_default();
    while let Some((tag @ 1.., rest)) = fields.split_first() {
        let Some(end) = rest.iter().position(|byte| *byte == 0) else { break };
        let text = || String::from_utf8_lossy(&rest[..end]).into_owned();
        match tag {
            b'C' => code = text(),
            b'M' => words = text(),
            _ => {}
        }
        fields = &rest[end + 1..];
    }
    (code, words)
}

/// The name of the gateway's own statements and portals on one connection, which no client can know beforehand.
#[derive(Debug, Clone)]
pub(super) struct Apart(Vec<u8>);

impl Apart {
    /// One for a connection. Without random numbers, which fail a login as well, it is the same for all.
    pub(super) fn new() -> Self {
        Self(format!("holdpoint: catalog lookup {}\0", nonce().unwrap_or_default()).into_bytes())
    }
}

/// Appends an `ErrorResponse` (`E`) or `NoticeResponse` (`N`).
pub(super) fn report(out: &mut BytesMut, kind: u8, severity: &str, code: &str, text: &str, detail: Option<&str>) {
    message(out, kind, |out| {
        let mut field = |tag: u8, value: &str| {
            out.put_u8(tag);
            // A zero would end the field early; the gateway's own words have none, but they may quote a bot's.
            out.extend(value.bytes().filter(|byte| *byte != 0));
            out.put_u8(0);
        };
        field(b'S', severity);
        field(b'V', severity);
        field(b'C', code);
        field(b'M', text);
        if let Some(detail) = detail {
            field(b'D', detail);
        }
        out.put_u8(0);
    });
}

/// How many rows a `CommandComplete` says that its statement changed or gave.
pub(super) fn rows_in_tag(message: &[u8]) -> Option<u64> {
    let tag = message.strip_prefix(b"C").and_then(|message| message.get(4..))?;
    str::from_utf8(tag).ok()?.trim_end_matches('\0').rsplit_once(' ')?.1.parse().ok()
}

/// Appends `ReadyForQuery`.
pub(super) fn ready(out: &mut BytesMut, status: u8) {
    message(out, b'Z', |out| out.put_u8(status));
}

/// Appends a simple `Query`.
pub(super) fn query(out: &mut BytesMut, sql: &str) {
    message(out, b'Q', |out| {
        out.put_slice(sql.as_bytes());
        out.put_u8(0);
    });
}

/// Appends a `Describe` of a portal.
pub(super) fn describe_portal(out: &mut BytesMut, portal: &[u8]) {
    message(out, b'D', |out| {
        out.put_u8(b'P');
        out.put_slice(portal);
        out.put_u8(0);
    });
}

/// A statement that is no SQL: the backend raises a syntax error for it and its transaction becomes what it would
/// have become had the backend refused the operation itself. Says in the backend's log what happened.
const NO_SQL: &str = "holdpoint: operation refused";

/// Appends [`NO_SQL`] as a simple query.
pub(super) fn poison_query(out: &mut BytesMut) {
    query(out, NO_SQL);
}

/// Appends [`NO_SQL`] as a `Parse`: after its error the backend discards up to the next `Sync`. The statement is named,
/// because a failed `Parse` of the unnamed statement would destroy the client's own.
pub(super) fn poison_parse(out: &mut BytesMut) {
    message(out, b'P', |out| {
        out.put_slice(b"holdpoint_refused\0");
        out.put_slice(NO_SQL.as_bytes());
        out.put_u8(0);
        out.put_i16(0);
    });
}

/// `insufficient_privilege`: what a refusal says.
pub(super) const INSUFFICIENT_PRIVILEGE: &str = "42501";
/// `query_canceled`: what a cancelled hold says.
pub(super) const QUERY_CANCELED: &str = "57014";
/// `admin_shutdown`: why the gateway ends a connection when it stops.
pub(super) const ADMIN_SHUTDOWN: &str = "57P01";
/// `protocol_violation`.
pub(super) const PROTOCOL_VIOLATION: &str = "08P01";
/// `invalid_authorization_specification`: a connection that is refused.
pub(super) const INVALID_AUTHORIZATION: &str = "28000";
/// `invalid_password`.
pub(super) const INVALID_PASSWORD: &str = "28P01";
/// `successful_completion`: a notice's code.
pub(super) const NOTICE: &str = "00000";
