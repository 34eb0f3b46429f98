//! Malformed frames, generated: the same index always gives the same bytes, so a failure can be had again.

use crate::{Pace, wire};

/// Mixed into each index; a failing run names it.
pub const CLIENT_SEED: u64 = 0x686f_6c64;

/// What a misbehaving client sends on its connection number `index`.
pub fn client_frames(index: u64) -> Vec<u8> {
    let mut pace = Pace::new(index ^ CLIENT_SEED);
    match pace.below(10) {
        0 => noise(&mut pace, 64),
        1 => bad_startup(&mut pace),
        // Most go past the startup, where there is more to get wrong.
        _ => {
            let startup = wire::startup(&[("user", "app"), ("database", "shop")]);
            [startup, bad_request(&mut pace), noise(&mut pace, 12)].concat()
        }
    }
}

fn bad_startup(pace: &mut Pace) -> Vec<u8> {
    match pace.below(7) {
        0 => vec![0, 0, 0, u8::try_from(pace.below(8)).expect("below 8")],
        1 => wire_length(pace, 0x7fff_ffff).into_iter().chain(pace.bytes(20)).collect(),
        2 => 0xffff_ffff_u32.to_be_bytes().into_iter().chain(pace.bytes(20)).collect(),
        3 => wire::startup_of(u32::try_from(pace.below(1 << 32)).expect("below 2^32"), &[("user", "app")]),
        4 => wire::startup(&[("", ""), ("user", "app")]),
        5 => wire::untyped(&[&(3_u32 << 16).to_be_bytes()[..], b"user\0app"].concat()),
        _ => wire::untyped(&[&80_877_102_u32.to_be_bytes()[..], &pace.bytes(3)].concat()),
    }
}

fn bad_request(pace: &mut Pace) -> Vec<u8> {
    match pace.below(12) {
        // A type that no frontend message has.
        0 => wire::message([0, 1, b'!', b'T', b'R', b'Z', 0xff][usize_below(pace, 7)], &noise(pace, 16)),
        // A length that does not even count itself.
        1 => vec![b'Q', 0, 0, 0, u8::try_from(pace.below(4)).expect("below 4")],
        // A length near and beyond 2^31.
        2 => [vec![b'Q'], wire_length(pace, 0xffff_fffe), noise(pace, 8)].concat(),
        // A body that ends early.
        3 => [b"Q\0\0\x10\0SELECT".to_vec(), noise(pace, 8)].concat(),
        4 => wire::message(b'Q', b"SELECT 1"),
        5 => wire::message(b'Q', b"SELECT 1\0; DROP TABLE target\0"),
        6 => wire::message(b'P', &[&wire::text("s")[..], b"SELECT $1\0\xff\xff"].concat()),
        7 => wire::message(b'B', &[&b"\0\0\0\0"[..], &[0xff, 0xff], &noise(pace, 24)].concat()),
        8 => wire::message(b'B', &[&b"\0\0\0\0\0\x01\x7f\xff\xff\xff"[..], &noise(pace, 8)].concat()),
        9 => wire::message(b'D', &[&[pace.byte() | 0x80][..], b"x\0"].concat()),
        10 => wire::message(b'E', b"\0\0\0"),
        _ => damaged(pace),
    }
}

/// A decent conversation with a few bytes changed and its end missing.
fn damaged(pace: &mut Pace) -> Vec<u8> {
    let decent = [
        wire::parse("s", "SELECT $1::int"),
        wire::bind("", "s", &["7"]),
        wire::describe_portal(""),
        wire::execute("", 0),
        wire::sync(),
    ];
    damage(pace, decent.concat())
}

/// What a misbehaving backend sends on its connection number `index`, and whether it first lets the client in.
pub fn server_frame(index: u64) -> Vec<u8> {
    let mut pace = Pace::new(index);
    let mut bytes = if pace.below(3) == 0 { Vec::new() } else { welcome() };
    bytes.extend(bad_reply(&mut pace));
    bytes
}

/// AuthenticationOk to ReadyForQuery.
pub(crate) fn welcome() -> Vec<u8> {
    [
        wire::message(b'R', &[0, 0, 0, 0]),
        wire::message(b'S', b"server_version\x0015.0\0"),
        wire::message(b'S', b"client_encoding\0UTF8\0"),
        wire::message(b'S', b"standard_conforming_strings\0on\0"),
        wire::message(b'K', &[0, 0, 0, 7, 1, 2, 3, 4]),
        wire::message(b'Z', b"I"),
    ]
    .concat()
}

fn bad_reply(pace: &mut Pace) -> Vec<u8> {
    match pace.below(13) {
        0 => noise(pace, 64),
        1 => vec![b'T', 0, 0, 0, u8::try_from(pace.below(4)).expect("below 4")],
        // A gigabyte announced, a few bytes sent: nothing may be set aside for it.
        2 => [vec![b'D'], wire_length(pace, 0x3fff_ffff), noise(pace, 16)].concat(),
        3 => [vec![b'D'], wire_length(pace, 0xffff_ffff), noise(pace, 16)].concat(),
        4 => wire::message(b'T', &[&[0xff, 0xff][..], &noise(pace, 24)].concat()),
        5 => wire::message(b'D', &[&[0, 9, 0x7f, 0xff, 0xff, 0xff][..], &noise(pace, 8)].concat()),
        6 => wire::message(b'D', &[0, 1, 0xff, 0xff, 0xff, 0xfe]),
        7 => wire::message([0, b'!', b'Q', b'P', 0xff][usize_below(pace, 5)], &noise(pace, 16)),
        8 => wire::message(b'E', b"SERROR"),
        9 => wire::message(b'R', &[&[0, 0, 0, pace.byte()][..], &noise(pace, 12)].concat()),
        10 => wire::message(b'H', &[&[pace.byte(), 0x7f, 0xff][..], &noise(pace, 4)].concat()),
        11 => wire::message(b'K', &noise(pace, 5)),
        _ => {
            let row = [
                wire::message(b'T', b"\0\x01x\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0"),
                wire::message(b'D', b"\0\x01\0\0\0\x01x"),
            ];
            damage(pace, [row.concat(), wire::message(b'C', b"SELECT 1\0"), wire::message(b'Z', b"I")].concat())
        }
    }
}

fn damage(pace: &mut Pace, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..=pace.below(3) {
        let at = usize_below(pace, bytes.len());
        bytes[at] ^= pace.byte() | 1;
    }
    let keep = bytes.len() - usize_below(pace, 4);
    bytes.truncate(keep);
    bytes
}

fn noise(pace: &mut Pace, most: u64) -> Vec<u8> {
    let count = pace.below(most);
    pace.bytes(count)
}

fn wire_length(pace: &mut Pace, most: u32) -> Vec<u8> {
    let less = u32::try_from(pace.below(1000)).expect("below 1000");
    (most - less).to_be_bytes().to_vec()
}

fn usize_below(pace: &mut Pace, end: usize) -> usize {
    usize::try_from(pace.below(u64::try_from(end).expect("64 bits fit"))).expect("it is below a usize")
}
