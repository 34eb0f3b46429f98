//! PostgreSQL's messages as short words, both ways: `Q SELECT 1`, `P - SELECT 1 | B - - | E - | S`, `D a,b | Z I`.
//!
//! Written apart from the product's own readers and writers, so that a mistake there is not made here again.
//! An unnamed statement or portal is `-`, SQL's NULL is `~`; what has no words is `raw 00ff`.

use bytes::{Buf as _, BufMut as _, BytesMut};

/// The backend's own cancel key: process id and secret. No client may ever see it.
pub(super) const REAL_KEY: [u8; 8] = [0, 0, 0x12, 0x34, 0xde, 0xad, 0xbe, 0xef];

/// Puts client messages, ` | ` between them, into bytes. `key` is the cancel key that the client was given.
pub(super) fn client(words: &str, key: &[u8]) -> Vec<u8> {
    words.split(" | ").flat_map(|one| client_message(one, key)).collect()
}

/// Puts backend messages, ` | ` between them, into bytes.
pub(super) fn backend(words: &str) -> Vec<u8> {
    words.split(" | ").flat_map(backend_message).collect()
}

fn client_message(words: &str, key: &[u8]) -> Vec<u8> {
    let (kind, rest) = words.split_once(' ').unwrap_or((words, ""));
    let parts: Vec<&str> = rest.split(' ').collect();
    let mut body = BytesMut::new();
    match kind {
        "raw" => return hex(rest),
        "SSL" => return packet(80_877_103, &[]),
        "GSS" => return packet(80_877_104, &[]),
        "cancel" => return packet(80_877_102, key),
        "startup" | "startup3.2" => {
            for pair in &parts {
                let (name, value) = pair.split_once('=').expect("name=value");
                text(&mut body, name);
                text(&mut body, value);
            }
            body.put_u8(0);
            return packet(if kind == "startup" { 3 << 16 } else { 3 << 16 | 2 }, &body);
        }
        "Q" | "f" | "p" => text(&mut body, rest),
        "d" => body.put_slice(unescaped(rest).as_bytes()),
        "P" => {
            let (name, sql) = rest.split_once(' ').expect("P NAME SQL");
            text(&mut body, named(name));
            text(&mut body, sql);
            body.put_u16(0);
        }
        "B" => {
            text(&mut body, named(parts[0]));
            text(&mut body, named(parts[1]));
            body.put_u16(0);
            values(&mut body, &parts[2..]);
            body.put_u16(0);
        }
        "D" | "C" => {
            body.put_slice(parts[0].as_bytes());
            text(&mut body, named(parts[1]));
        }
        "E" => {
            text(&mut body, named(rest));
            body.put_i32(0);
        }
        "F" => body.put_slice(&[0, 0, 4, 0xd2, 0, 0, 0, 0, 0, 0]),
        "S" | "H" | "X" | "c" => {}
        other => panic!("a client says no `{other}`"),
    }
    message(kind.as_bytes()[0], &body)
}

fn backend_message(words: &str) -> Vec<u8> {
    let (kind, rest) = words.split_once(' ').unwrap_or((words, ""));
    let mut body = BytesMut::new();
    match kind {
        "raw" => return hex(rest),
        "R" => body.put_u32(rest.parse().unwrap_or(0)),
        "K" => body.put_slice(&REAL_KEY),
        "S" => {
            let (name, value) = rest.split_once('=').expect("name=value");
            text(&mut body, name);
            text(&mut body, value);
        }
        "Z" => body.put_slice(rest.as_bytes()),
        "T" => {
            let columns: Vec<&str> = rest.split(',').collect();
            body.put_u16(u16::try_from(columns.len()).expect("few"));
            for column in columns {
                let (name, origin) = column.split_once('@').unwrap_or((column, "0.0"));
                let (table, number) = origin.split_once('.').expect("TABLE.COLUMN");
                text(&mut body, name);
                body.put_u32(table.parse().expect("a number"));
                body.put_u16(number.parse().expect("a number"));
                body.put_u32(25);
                body.put_i16(-1);
                body.put_i32(-1);
                body.put_u16(0);
            }
        }
        "D" => values(&mut body, &rest.split(',').collect::<Vec<_>>()),
        "C" => text(&mut body, rest),
        "E" | "N" => {
            let (code, said) = rest.split_once(' ').expect("CODE TEXT");
            let (said, detail) = said.split_once("; ").unwrap_or((said, ""));
            let severity = if kind == "E" { "ERROR" } else { "NOTICE" };
            for (tag, value) in [(b'S', severity), (b'V', severity), (b'C', code), (b'M', said), (b'D', detail)] {
                if !value.is_empty() {
                    body.put_u8(tag);
                    text(&mut body, value);
                }
            }
            body.put_u8(0);
        }
        "G" | "H" => {
            // Text format; how many columns.
            let columns = rest.parse().unwrap_or(1);
            body.put_u8(0);
            body.put_u16(columns);
            (0..columns).for_each(|_| body.put_u16(0));
        }
        "W" => body.put_slice(&[0, 0, 0]),
        "d" => body.put_slice(unescaped(rest).as_bytes()),
        "t" => body.put_u16(0),
        "v" => body.put_slice(&[0, 3, 0, 0, 0, 0, 0, 0]),
        "1" | "2" | "3" | "n" | "s" | "I" | "c" => {}
        other => panic!("a backend says no `{other}`"),
    }
    message(kind.as_bytes()[0], &body)
}

/// Reads what arrived at one end.
pub(super) struct Ear {
    buffer: BytesMut,
    is_client: bool,
    /// Whether the packet without a type has come; none comes to a client.
    started: bool,
    /// Answers to encryption requests that may be a single byte.
    single: usize,
    /// The cancel key that the client was given.
    pub(super) key: Vec<u8>,
}

impl Ear {
    pub(super) fn of_client() -> Self {
        Self { buffer: BytesMut::new(), is_client: true, started: true, single: 0, key: Vec::new() }
    }

    pub(super) fn of_backend() -> Self {
        Self { is_client: false, started: false, ..Self::of_client() }
    }

    /// The next answer may be a single byte.
    pub(super) fn expect_single(&mut self) {
        self.single += 1;
    }

    /// The messages in `bytes`, as words.
    pub(super) fn hear(&mut self, bytes: &[u8]) -> Vec<String> {
        self.buffer.extend_from_slice(bytes);
        let mut heard = Vec::new();
        loop {
            if self.single > 0 && self.buffer.first() == Some(&b'N') {
                self.buffer.advance(1);
                self.single -= 1;
                heard.push("N".to_owned());
                continue;
            }
            let header = if self.started { 5 } else { 4 };
            if self.buffer.len() < header {
                return heard;
            }
            let length = u32::from_be_bytes(self.buffer[header - 4..header].try_into().expect("four bytes"));
            let length = usize::try_from(length).expect("fits") + header - 4;
            if self.buffer.len() < length {
                return heard;
            }
            let frame = self.buffer.split_to(length);
            heard.push(if self.started { self.typed(&frame) } else { self.packet(&frame) });
        }
    }

    fn packet(&mut self, frame: &[u8]) -> String {
        let code = u32::from_be_bytes(frame[4..8].try_into().expect("four bytes"));
        if code == 80_877_102 {
            return if frame[8..] == REAL_KEY { "cancel".to_owned() } else { format!("cancel {:02x?}", &frame[8..]) };
        }
        self.started = true;
        let words: Vec<String> = frame[8..].split(|byte| *byte == 0).map(lossy).collect();
        let pairs: Vec<String> = words.chunks(2).filter(|two| two.len() == 2).map(|two| two.join("=")).collect();
        let minor = if code & 0xffff == 0 { String::new() } else { format!("3.{}", code & 0xffff) };
        format!("startup{minor} {}", pairs.join(" ")).trim_end().trim_end_matches('=').trim_end().to_owned()
    }

    fn typed(&mut self, frame: &[u8]) -> String {
        let (kind, body) = (char::from(frame[0]), &frame[5..]);
        let words = if self.is_client { self.answer(kind, body) } else { request(kind, body) };
        format!("{kind} {words}").trim_end().to_owned()
    }

    fn answer(&mut self, kind: char, mut body: &[u8]) -> String {
        match kind {
            'K' => {
                assert_ne!(body, REAL_KEY, "the backend's own key reached a client");
                self.key = body.to_vec();
                String::new()
            }
            'R' => Some(body.get_u32()).filter(|kind| *kind != 0).map_or_else(String::new, |kind| kind.to_string()),
            'E' | 'N' => report(body),
            'C' => string(&mut body),
            'D' => read_values(&mut body).join(","),
            'd' => escaped(body),
            'Z' => lossy(body),
            'S' => [string(&mut body), string(&mut body)].join("="),
            'A' => {
                body.advance(4);
                [string(&mut body), string(&mut body)].join(" ")
            }
            'T' => columns(body),
            'H' => Some(body[2]).filter(|columns| *columns > 1).map_or_else(String::new, |columns| columns.to_string()),
            _ => String::new(),
        }
    }
}

/// What the gateway asks for itself, in one word: its first, where it asks what a statement would touch.
pub(super) fn without_lookups(heard: Vec<String>) -> Vec<String> {
    let is_own = |message: &String| message.contains("holdpoint: catalog lookup");
    let short = |message: String| match (is_own(&message), message.starts_with("P ")) {
        (false, _) => Some(message),
        (true, true) => Some(match message.split_once("/* holdpoint: impact */ ") {
            Some((_, asked)) => format!("({})", asked.split(' ').next().unwrap_or_default()),
            None => "(the catalog lookup)".to_owned(),
        }),
        (true, false) => None,
    };
    heard.into_iter().filter_map(short).collect()
}

fn request(kind: char, mut body: &[u8]) -> String {
    match kind {
        'Q' | 'f' | 'p' => string(&mut body),
        'E' => unnamed(&string(&mut body)),
        'P' => [unnamed(&string(&mut body)), string(&mut body)].join(" "),
        'B' => {
            let names = [string(&mut body), string(&mut body)].map(|name| unnamed(&name)).join(" ");
            body.advance(2);
            [names, read_values(&mut body).join(" ")].join(" ")
        }
        'C' | 'D' => {
            let kind = char::from(body.get_u8());
            format!("{kind} {}", unnamed(&string(&mut body)))
        }
        'd' => escaped(body),
        _ => String::new(),
    }
}

fn columns(mut body: &[u8]) -> String {
    let count = body.get_u16();
    let columns = (0..count).map(|_| {
        let name = string(&mut body);
        let (table, number) = (body.get_u32(), body.get_u16());
        body.advance(12);
        if table == 0 { name } else { format!("{name}@{table}.{number}") }
    });
    columns.collect::<Vec<_>>().join(",")
}

fn report(mut body: &[u8]) -> String {
    let mut fields = std::collections::HashMap::new();
    while body.first().is_some_and(|tag| *tag != 0) {
        let tag = body.get_u8();
        fields.insert(tag, string(&mut body));
    }
    let field = |tag: u8| fields.get(&tag).cloned().unwrap_or_default();
    let detail = field(b'D');
    let separator = if detail.is_empty() { "" } else { "; " };
    format!("{} {}{separator}{detail}", field(b'C'), field(b'M'))
}

fn values(body: &mut BytesMut, values: &[&str]) {
    body.put_u16(u16::try_from(values.len()).expect("few"));
    for value in values {
        if *value == "~" {
            body.put_i32(-1);
        } else {
            body.put_i32(i32::try_from(value.len()).expect("short"));
            body.put_slice(value.as_bytes());
        }
    }
}

fn read_values(body: &mut &[u8]) -> Vec<String> {
    let count = body.get_u16();
    let value = |body: &mut &[u8]| match usize::try_from(body.get_i32()) {
        Ok(length) => {
            let value = lossy(&body[..length]);
            body.advance(length);
            value
        }
        Err(_) => "~".to_owned(),
    };
    (0..count).map(|_| value(body)).collect()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.put_u32(u32::try_from(body.len() + 4).expect("short"));
    out.put_slice(body);
    out
}

fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u32(u32::try_from(body.len() + 8).expect("short"));
    out.put_u32(code);
    out.put_slice(body);
    out
}

fn text(body: &mut BytesMut, text: &str) {
    body.put_slice(text.as_bytes());
    body.put_u8(0);
}

fn string(body: &mut &[u8]) -> String {
    let end = body.iter().position(|byte| *byte == 0).expect("a string has an end");
    let text = lossy(&body[..end]);
    body.advance(end + 1);
    text
}

fn named(name: &str) -> &str {
    if name == "-" { "" } else { name }
}

fn unnamed(name: &str) -> String {
    if name.is_empty() { "-".to_owned() } else { name.to_owned() }
}

fn unescaped(text: &str) -> String {
    text.replace("\\n", "\n").replace("\\t", "\t")
}

fn escaped(bytes: &[u8]) -> String {
    lossy(bytes).replace('\n', "\\n").replace('\t', "\\t")
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |two: &[u8]| u8::from_str_radix(str::from_utf8(two).expect("ASCII"), 16).expect("hex digits");
    digits.chunks(2).map(byte).collect()
}
