//! Entry points for fuzzing: arbitrary bytes from either side against one connection's state, with no network.
//!
//! What must hold: no panic, and never more bytes kept than came in.

use std::sync::Arc;

use bytes::BytesMut;

use super::{
    Shared,
    dialect::{Phase, PostgresDialect},
};
use crate::{
    gate::{Language as _, Refusal},
    mask::{Masks, Salt},
    protocol::{Dialect as _, Start, Step},
};

/// A client that sends `data`, in pieces, through startup and beyond; every other operation is refused.
pub fn client(data: &[u8]) {
    let mut dialect = PostgresDialect::detached(Arc::new(Shared::new()), Arc::default(), Salt::new(&[0; 32]));
    // The first byte says where to begin, so that the interesting states need not be guessed through a handshake.
    let Some((start, data)) = data.split_first() else { return };
    if start & 1 == 1 {
        dialect.phase = Phase::Ready;
    }
    let mut input = BytesMut::new();
    for piece in data.chunks(usize::from(*start).max(1)) {
        input.extend_from_slice(piece);
        if !requests(&mut dialect, &mut input, *start) {
            return;
        }
    }
}

/// A backend that answers `data` while a few requests are under way.
pub fn backend(data: &[u8]) {
    let masks = Masks::compile(&[]).expect("no rules compile");
    let mut dialect = PostgresDialect::detached(Arc::new(Shared::new()), Arc::new(masks), Salt::new(&[0; 32]));
    let Some((start, data)) = data.split_first() else { return };
    dialect.phase = if start & 1 == 1 { Phase::Ready } else { Phase::Authentication };
    if start & 2 == 2 {
        let mut input = BytesMut::from(&b"P\0\0\0\x10\0SELECT 1\0\0\0B\0\0\0\x0c\0\0\0\0\0\0\0\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04Q\0\0\0\x0dSELECT 2\0"[..]);
        requests(&mut dialect, &mut input, 0);
    }
    let (mut reply, mut out) = (BytesMut::new(), BytesMut::new());
    for piece in data.chunks(usize::from(*start).max(1)) {
        reply.extend_from_slice(piece);
        let masks = dialect.masker.masks.clone();
        if dialect.mask(&mut reply, &masks, &mut out).is_err() {
            return;
        }
    }
}

fn requests(dialect: &mut PostgresDialect, input: &mut BytesMut, choose: u8) -> bool {
    for turn in 0..1000_u32 {
        let rolls_back = turn & 2 == 2;
        let refusal = Refusal { reason: "no".into(), rule: "fuzz".into(), request: None, cancelled: false, rolls_back };
        match dialect.request(input) {
            Ok(Step::More | Step::Wait) => return true,
            Ok(Step::Submit(..)) if (turn & 1 == 0) == (choose & 4 == 0) => dialect.forwarded(),
            Ok(Step::Submit(..) | Step::Forbid(..)) => drop(dialect.refused(&refusal)),
            Ok(Step::Control(..) | Step::Continue(_) | Step::Answer | Step::StartTls(Start::Agreed)) => {}
            Ok(Step::Open) => dialect.opened(Err("there is none".into())),
            Ok(Step::End(_) | Step::StartTls(Start::AtOnce)) | Err(_) => return false,
        }
        dialect.answers(&mut BytesMut::new());
    }
    true
}
