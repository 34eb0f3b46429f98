//! What a client speaks that does not speak its resource's protocol, in words for whoever reads why it was refused.
//!
//! Nothing is decided here: a protocol refuses what is not its own, whether it has a name here or not. What is named are
//! the wrappings in which a protocol travels unseen (bypass N10).

/// What `first` begins, the first bytes of a connection. `None` also where it is too short to tell.
pub(super) fn named(first: &[u8]) -> Option<&'static str> {
    match first {
        // SOCKS: a version, then few bytes of which the client waits for the answer.
        [4, ..] => Some("SOCKS4, a way to tunnel"),
        [5, ..] => Some("SOCKS5, a way to tunnel"),
        [b'S', b'S', b'H', b'-', ..] => Some("SSH"),
        _ if first.starts_with(b"CONNECT ") => Some("HTTP CONNECT, a way to tunnel"),
        _ if HTTP.iter().any(|method| first.starts_with(method)) => Some(http(first)),
        _ => None,
    }
}

fn http(first: &[u8]) -> &'static str {
    let head = first.to_ascii_lowercase();
    match head.windows(UPGRADE.len()).any(|words| words == UPGRADE) {
        true => "a WebSocket handshake, a way to tunnel",
        false => "HTTP",
    }
}

/// Methods, and HTTP/2's first line.
const HTTP: [&[u8]; 9] =
    [b"GET ", b"POST ", b"PUT ", b"HEAD ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"TRACE ", b"PRI * HTTP/2"];

/// As RFC 6455 asks for; the header's white space may be written otherwise, and is then called HTTP.
const UPGRADE: &[u8] = b"upgrade: websocket";

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn n10_wrappings_have_names() {
        for (first, word) in [
            (&[5_u8, 1, 0][..], "SOCKS5"),
            (&[4, 1, 0x15, 0x38], "SOCKS4"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
            (b"CONNECT db:5432 HTTP/1.1\r\n", "HTTP CONNECT"),
            (b"GET / HTTP/1.1\r\nUPGRADE: WebSocket\r\n", "WebSocket"),
            (b"GET / HTTP/1.1\r\n", "HTTP"),
            (b"PRI * HTTP/2.0\r\n", "HTTP"),
        ] {
            assert!(named(first).is_some_and(|name| name.starts_with(word) || name.contains(word)), "{word}");
        }
        // What PostgreSQL's clients send, and what may become anything yet.
        for first in [&[0_u8, 0, 0, 8][..], &[0x16, 3, 1, 2], b"", b"G", b"SSH", b"GETTING"] {
            assert_eq!(named(first), None, "{first:?}");
        }
    }
}
