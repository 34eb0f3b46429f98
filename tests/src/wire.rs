//! PostgreSQL's messages as bytes, for clients and backends that say what no library would say.
//!
//! Written from the protocol's document (chapter "Frontend/Backend Protocol", message formats), not from the gateway's
//! own code, so that a mistake there is not repeated here.

/// A message: its type, then its length and body.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&length(body.len() + 4));
    bytes.extend_from_slice(body);
    bytes
}

/// A StartupMessage of protocol 3.0 with `parameters`.
pub fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    startup_of(3 << 16, parameters)
}

/// A StartupMessage of any version.
pub fn startup_of(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend(text(name));
        body.extend(text(value));
    }
    body.push(0);
    untyped(&body)
}

/// A message without a type byte: the first one on a connection.
pub fn untyped(body: &[u8]) -> Vec<u8> {
    let mut bytes = length(body.len() + 4).to_vec();
    bytes.extend_from_slice(body);
    bytes
}

/// SSLRequest.
pub fn ssl_request() -> Vec<u8> {
    untyped(&80_877_103_u32.to_be_bytes())
}

/// GSSENCRequest.
pub fn gssenc_request() -> Vec<u8> {
    untyped(&80_877_104_u32.to_be_bytes())
}

/// CancelRequest.
pub fn cancel_request(pid: u32, key: &[u8]) -> Vec<u8> {
    untyped(&[&80_877_102_u32.to_be_bytes(), &pid.to_be_bytes()[..], key].concat())
}

/// Query.
pub fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &text(sql))
}

/// Parse, without declared parameter types.
pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', &[text(name), text(sql), vec![0, 0]].concat())
}

/// Bind with text parameters and text results.
pub fn bind(portal: &str, statement: &str, parameters: &[&str]) -> Vec<u8> {
    let mut body = [text(portal), text(statement), vec![0, 0]].concat();
    body.extend_from_slice(&count(parameters.len()));
    for parameter in parameters {
        body.extend_from_slice(&length(parameter.len()));
        body.extend_from_slice(parameter.as_bytes());
    }
    body.extend_from_slice(&[0, 0]);
    message(b'B', &body)
}

/// Describe a portal.
pub fn describe_portal(name: &str) -> Vec<u8> {
    message(b'D', &[vec![b'P'], text(name)].concat())
}

/// Execute with a row limit (0: all rows).
pub fn execute(portal: &str, rows: u32) -> Vec<u8> {
    message(b'E', &[text(portal), rows.to_be_bytes().to_vec()].concat())
}

/// Close a prepared statement.
pub fn close_statement(name: &str) -> Vec<u8> {
    message(b'C', &[vec![b'S'], text(name)].concat())
}

/// Sync.
pub fn sync() -> Vec<u8> {
    message(b'S', &[])
}

/// Flush.
pub fn flush() -> Vec<u8> {
    message(b'H', &[])
}

/// Terminate.
pub fn terminate() -> Vec<u8> {
    message(b'X', &[])
}

/// PasswordMessage.
pub fn password(password: &str) -> Vec<u8> {
    message(b'p', &text(password))
}

/// FunctionCall of the function with this OID, without arguments.
pub fn function_call(oid: u32) -> Vec<u8> {
    message(b'F', &[&oid.to_be_bytes()[..], &[0, 0], &[0, 0], &[0, 0]].concat())
}

/// A string with its terminator.
pub fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

/// A four-byte length or number.
pub fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).expect("tests send less than 4 GiB").to_be_bytes()
}

/// A two-byte count.
pub fn count(items: usize) -> [u8; 2] {
    u16::try_from(items).expect("tests send few items").to_be_bytes()
}

/// A message as received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its type byte.
    pub kind: u8,
    /// Its body, without the length.
    pub body: Vec<u8>,
}

impl Message {
    /// The field of an ErrorResponse or NoticeResponse: `C` is the SQLSTATE, `M` the message, `D` the detail.
    pub fn field(&self, code: u8) -> Option<String> {
        let fields = self.body.split(|byte| *byte == 0);
        fields.filter_map(|field| field.split_first()).find(|(kind, _)| **kind == code).map(|(_, value)| lossy(value))
    }

    /// The body as text, for searching.
    pub fn text(&self) -> String {
        lossy(&self.body)
    }
}

/// Takes one whole message off the front of `bytes`.
pub fn take(bytes: &mut Vec<u8>) -> Option<Message> {
    let header = bytes.get(..5)?;
    let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
    let end = usize::try_from(length).expect("32 bits fit") + 1;
    if bytes.len() < end {
        return None;
    }
    let message = Message { kind: bytes[0], body: bytes[5..end].to_vec() };
    bytes.drain(..end);
    Some(message)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
