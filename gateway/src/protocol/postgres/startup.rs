//! The packets that come before any typed message: what a client may say while nobody knows yet who it is.
//! ("Message Formats": SSLRequest, GSSENCRequest, CancelRequest, StartupMessage.)

use std::collections::BTreeMap;

use bytes::Bytes;

use super::wire::LONGEST_STARTUP;
use crate::protocol::{Malformed, reader::Reader};

/// A packet without a type byte.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Startup {
    /// The client would like TLS.
    Ssl,
    /// The client would like GSSAPI encryption.
    GssEnc,
    /// The client wants to cancel what another connection does; the key it was given there.
    Cancel(Bytes),
    /// The client says who it is and what it wants, by name.
    Session {
        /// The protocol version, major in the upper half.
        version: u32,
        /// `user`, `database`, `options`, …
        parameters: BTreeMap<String, String>,
    },
}

/// The first packet's length, once it is known.
///
/// # Errors
/// It is no length that such a packet can have. A TLS or HTTP client is told apart, for the person who reads the error.
pub(super) fn packet_len(buffer: &[u8]) -> Result<Option<usize>, Malformed> {
    let Some(header) = buffer.first_chunk::<4>() else { return Ok(None) };
    if header[0] == 0x16 {
        return Err(Malformed("the client starts with a TLS handshake; direct TLS is not spoken here yet".into()));
    }
    let length = u32::from_be_bytes(*header) as usize;
    if !(8..=LONGEST_STARTUP).contains(&length) {
        return Err(Malformed(format!(
            "the first packet says that it is {length} bytes long, which no PostgreSQL client sends"
        )));
    }
    Ok(Some(length))
}

/// Reads a whole packet, header included.
///
/// # Errors
/// It is none of the four.
pub(super) fn read(packet: &[u8]) -> Result<Startup, Malformed> {
    let mut reader = Reader::new(packet);
    reader.take(4)?;
    match reader.u32()? {
        80_877_103 => reader.finish().map(|()| Startup::Ssl).map_err(Malformed::from),
        80_877_104 => reader.finish().map(|()| Startup::GssEnc).map_err(Malformed::from),
        80_877_102 => match reader.rest() {
            // Process id, then a key of at least one byte: PostgreSQL 18's are up to 256 bytes long.
            key if (5..=260).contains(&key.len()) => Ok(Startup::Cancel(Bytes::copy_from_slice(key))),
            key => Err(Malformed(format!("a cancel request carries a key of {} bytes", key.len()))),
        },
        version if version >> 16 == 3 => parameters(reader).map(|parameters| Startup::Session { version, parameters }),
        version => {
            Err(Malformed(format!("protocol version {}.{} is not spoken here", version >> 16, version & 0xffff)))
        }
    }
}

/// Name and value pairs up to an empty name, which must be the packet's last byte. (pgbouncer CVE-2026-107349: an
/// empty name with something behind it must neither spin nor be skipped.)
fn parameters(mut reader: Reader<'_>) -> Result<BTreeMap<String, String>, Malformed> {
    let mut parameters = BTreeMap::new();
    loop {
        let name = reader.cstr()?;
        if name.is_empty() {
            reader.finish()?;
            return Ok(parameters);
        }
        let value = reader.cstr()?;
        let text = |bytes: &[u8]| {
            String::from_utf8(bytes.to_vec()).map_err(|_| Malformed("a startup parameter is not UTF-8".into()))
        };
        let name = text(name)?;
        if parameters.insert(name.clone(), text(value)?).is_some() {
            // Which of the two the backend takes is its business; judging one and forwarding both is not ours.
            return Err(Malformed(format!("the startup parameter {name:?} is given twice")));
        }
    }
}
