//! How an entry's bytes lie in the store: CBOR arrays, in which an element's place is its number.
//!
//! The record's own types derive their layout; what belongs to other modules is laid out here, so that those modules
//! know nothing of storage and a change there cannot change the store by accident. Places are never reused or moved.
//! Every decoder answers an error for what it does not know.

use std::{borrow::Cow, time::Duration};

use ::bytes::Bytes;
use minicbor::{
    Decode, Decoder, Encode, Encoder,
    data::Type,
    decode::Error as Bad,
    encode::{Error, Write},
};

use super::entry::{Asked, Entry};
use crate::operation::{Digest, Effects, Estimate, Id, Impact, Object, Parameter, Ran, State, Touched};
use crate::policy::{Approval, Approver, Decide, Hours, Need, Otherwise, Separation, Step, Who};
use crate::workload::{CgroupId, Process, Workload};

/// Appends the entry's bytes to `to`.
pub(super) fn encode(entry: &Entry, to: &mut Vec<u8>) {
    let mut encoder = Encoder::new(to);
    entry.encode(&mut encoder, &mut ()).expect("a vector takes every byte and no encoder here fails by itself");
}

/// Reads an entry; all of `from` must belong to it.
pub(super) fn decode(from: &[u8]) -> Result<Entry, Bad> {
    let mut decoder = Decoder::new(from);
    let entry = decoder.decode()?;
    if decoder.position() == from.len() { Ok(entry) } else { Err(Bad::message("bytes left over after the entry")) }
}

type Done<W> = Result<(), Error<<W as Write>::Error>>;

/// Reads the header of an array of exactly `count` elements.
fn array(d: &mut Decoder<'_>, count: u64) -> Result<(), Bad> {
    match d.array()? {
        Some(found) if found == count => Ok(()),
        found => Err(Bad::message(format!("expected {count} fields, found {found:?}"))),
    }
}

/// Reads a definite list's length, refused when the rest of the input cannot hold that many elements.
fn count(d: &mut Decoder<'_>) -> Result<usize, Bad> {
    let length = d.array()?.ok_or_else(|| Bad::message("a list of unstated length"))?;
    let left = d.input().len() - d.position();
    usize::try_from(length).ok().filter(|n| *n <= left).ok_or_else(|| Bad::message("a list longer than its entry"))
}

fn list<T>(d: &mut Decoder<'_>, mut each: impl FnMut(&mut Decoder<'_>) -> Result<T, Bad>) -> Result<Vec<T>, Bad> {
    (0..count(d)?).map(|_| each(d)).collect()
}

fn text(d: &mut Decoder<'_>) -> Result<String, Bad> {
    d.str().map(str::to_owned)
}

fn optional<'b, T>(
    d: &mut Decoder<'b>,
    some: impl FnOnce(&mut Decoder<'b>) -> Result<T, Bad>,
) -> Result<Option<T>, Bad> {
    if d.datatype()? == Type::Null { d.null().map(|()| None) } else { some(d).map(Some) }
}

fn put_optional_str<W: Write>(value: Option<&str>, e: &mut Encoder<W>) -> Done<W> {
    match value {
        Some(value) => e.str(value)?.ok(),
        None => e.null()?.ok(),
    }
}

pub(super) mod id {
    use super::*;

    pub(crate) fn encode<C, T, W: Write>(id: &Id<T>, e: &mut Encoder<W>, _: &mut C) -> Done<W> {
        e.bytes(id.as_bytes())?.ok()
    }

    pub(crate) fn decode<C, T>(d: &mut Decoder<'_>, _: &mut C) -> Result<Id<T>, Bad> {
        let bytes = d.bytes()?.try_into().map_err(|_| Bad::message("an identifier that is not sixteen bytes"))?;
        Ok(Id::from_bytes(bytes))
    }
}

pub(super) mod optional_id {
    use super::*;

    pub(crate) fn encode<C, T, W: Write>(value: &Option<Id<T>>, e: &mut Encoder<W>, ctx: &mut C) -> Done<W> {
        match value {
            Some(value) => id::encode(value, e, ctx),
            None => e.null()?.ok(),
        }
    }

    pub(crate) fn decode<C, T>(d: &mut Decoder<'_>, ctx: &mut C) -> Result<Option<Id<T>>, Bad> {
        optional(d, |d| id::decode(d, ctx))
    }
}

pub(super) mod digest {
    use super::*;

    pub(crate) fn encode<C, W: Write>(digest: &Digest, e: &mut Encoder<W>, _: &mut C) -> Done<W> {
        e.bytes(&digest.0)?.ok()
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Digest, Bad> {
        d.bytes()?.try_into().map(Digest).map_err(|_| Bad::message("a digest that is not thirty-two bytes"))
    }
}

/// A byte string; one that is long and that it makes shorter as an LZ4 block, tagged, with its length: `28500([length, block])`.
/// Large answers cost the record a hash, two checksums, and two files: of what is left of them.
pub(super) mod bytes {
    use minicbor::data::Tag;

    use super::*;

    /// Not one that is registered with IANA: it says nothing outside the record.
    const LZ4: Tag = Tag::new(28_500);
    /// Shorter ones are left to the store, which compresses many together.
    const LONG: usize = 4 << 10;
    /// No block is longer, as a part of itself, than what LZ4 makes of zeros.
    const DENSEST: usize = 255;

    pub(crate) fn encode<C, W: Write>(value: &Bytes, e: &mut Encoder<W>, _: &mut C) -> Done<W> {
        if value.len() >= LONG {
            let block = lz4_flex::block::compress(value);
            if block.len() < value.len() / 8 * 7 {
                return e.tag(LZ4)?.array(2)?.u64(value.len() as u64)?.bytes(&block)?.ok();
            }
        }
        e.bytes(value)?.ok()
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Bytes, Bad> {
        if d.datatype()? != Type::Tag {
            return d.bytes().map(Bytes::copy_from_slice);
        }
        if d.tag()? != LZ4 {
            return Err(Bad::message("bytes in a form that this version does not know"));
        }
        array(d, 2)?;
        let length = usize::try_from(d.u64()?).map_err(Bad::message)?;
        let block = d.bytes()?;
        // Asked before room is made for them.
        if length > block.len().saturating_mul(DENSEST) {
            return Err(Bad::message("compressed bytes that say they are longer than they can be"));
        }
        let whole = lz4_flex::block::decompress(block, length).map_err(Bad::message)?;
        if whole.len() == length { Ok(whole.into()) } else { Err(Bad::message("compressed bytes of another length")) }
    }
}

pub(super) mod many_bytes {
    use super::*;

    pub(crate) fn encode<C, W: Write>(many: &[Bytes], e: &mut Encoder<W>, ctx: &mut C) -> Done<W> {
        e.array(many.len() as u64)?;
        many.iter().try_for_each(|value| bytes::encode(value, e, ctx))
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, ctx: &mut C) -> Result<Vec<Bytes>, Bad> {
        list(d, |d| bytes::decode(d, ctx))
    }
}

/// `[[[what, on, rows]…], [[name, rows, bytes, locks]…], missing]`.
pub(super) mod impact {
    use super::*;

    pub(crate) fn encode<C, W: Write>(impact: &Impact, e: &mut Encoder<W>, ctx: &mut C) -> Done<W> {
        let Impact { estimates, touched, missing, ran } = impact;
        e.array(if ran.is_empty() { 3 } else { 4 })?.array(estimates.len() as u64)?;
        for Estimate { what, on, rows } in estimates {
            e.array(3)?.str(what)?.str(on)?.u64(*rows)?;
        }
        e.array(touched.len() as u64)?;
        for Touched { name, rows, bytes, locks } in touched {
            e.array(4)?.str(name)?.encode_with(rows, ctx)?.encode_with(bytes, ctx)?.encode_with(locks, ctx)?;
        }
        e.str(missing)?;
        if !ran.is_empty() {
            e.array(ran.len() as u64)?;
        }
        for Ran { statement, rows } in ran {
            e.array(2)?.str(statement)?.encode_with(rows, ctx)?;
        }
        Ok(())
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Impact, Bad> {
        let parts = d.array()?;
        if !matches!(parts, Some(3 | 4)) {
            return Err(Bad::message("an impact has three or four parts"));
        }
        let estimates = list(d, |d| {
            array(d, 3)?;
            Ok(Estimate { what: text(d)?, on: text(d)?, rows: d.u64()? })
        })?;
        let touched = list(d, |d| {
            array(d, 4)?;
            Ok(Touched { name: text(d)?, rows: d.decode()?, bytes: d.decode()?, locks: list(d, text)? })
        })?;
        let missing = text(d)?;
        let one = |d: &mut Decoder<'_>| {
            array(d, 2)?;
            Ok(Ran { statement: text(d)?, rows: d.decode()? })
        };
        let ran = if parts == Some(4) { list(d, one)? } else { Vec::new() };
        Ok(Impact { estimates, touched, missing, ran })
    }
}

/// `[cgroup, name, path, unit, labels]`.
pub(super) mod workload {
    use super::*;

    pub(crate) fn encode<C, W: Write>(workload: &Workload, e: &mut Encoder<W>, ctx: &mut C) -> Done<W> {
        e.array(5)?.u64(workload.cgroup.0)?.str(&workload.name)?.str(&workload.path)?;
        put_optional_str(workload.unit.as_deref(), e)?;
        workload.labels.encode(e, ctx)
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Workload, Bad> {
        array(d, 5)?;
        Ok(Workload {
            cgroup: CgroupId(d.u64()?),
            name: text(d)?,
            path: text(d)?,
            unit: optional(d, text)?,
            labels: d.decode()?,
        })
    }
}

/// `[pid, uid, gid, user, comm, executable, sha256, verified, command line]`; the executable's path as bytes.
pub(super) mod process {
    use std::{
        ffi::OsStr,
        os::unix::ffi::OsStrExt,
        path::{Path, PathBuf},
    };

    use super::*;

    pub(crate) fn encode<C, W: Write>(process: &Process, e: &mut Encoder<W>, ctx: &mut C) -> Done<W> {
        e.array(9)?.u32(process.pid)?.u32(process.uid)?.u32(process.gid)?;
        put_optional_str(process.user.as_deref(), e)?;
        e.str(&process.comm)?;
        match process.executable.as_deref().map(Path::as_os_str) {
            Some(path) => e.bytes(path.as_bytes())?,
            None => e.null()?,
        };
        match &process.sha256 {
            Some(sha256) => digest::encode(sha256, e, ctx)?,
            None => e.null()?.ok()?,
        }
        e.bool(process.verified)?;
        process.command_line.encode(e, ctx)
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, ctx: &mut C) -> Result<Process, Bad> {
        array(d, 9)?;
        Ok(Process {
            pid: d.u32()?,
            uid: d.u32()?,
            gid: d.u32()?,
            user: optional(d, text)?,
            comm: text(d)?,
            executable: optional(d, |d| d.bytes().map(|path| PathBuf::from(OsStr::from_bytes(path))))?,
            sha256: optional(d, |d| digest::decode(d, ctx))?,
            verified: d.bool()?,
            command_line: list(d, text)?,
        })
    }
}

/// `[tag, name]`: 0 a user, 1 a group, 2 whoever is on call, 3 a program.
fn tag_of_who(who: &Who) -> (u8, &str) {
    match who {
        Who::User(name) => (0, name),
        Who::Group(name) => (1, name),
        Who::OnCall(name) => (2, name),
        Who::Program(name) => (3, name),
    }
}

fn who(d: &mut Decoder<'_>) -> Result<Who, Bad> {
    match d.u8()? {
        0 => Ok(Who::User(text(d)?)),
        1 => Ok(Who::Group(text(d)?)),
        2 => Ok(Who::OnCall(text(d)?)),
        3 => Ok(Who::Program(text(d)?)),
        tag => Err(Bad::unknown_variant(tag.into())),
    }
}

pub(super) mod many_who {
    use super::*;

    pub(crate) fn encode<C, W: Write>(many: &[Who], e: &mut Encoder<W>, _: &mut C) -> Done<W> {
        e.array(many.len() as u64)?;
        for (tag, name) in many.iter().map(tag_of_who) {
            e.array(2)?.u8(tag)?.str(name)?;
        }
        Ok(())
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Vec<Who>, Bad> {
        list(d, |d| {
            array(d, 2)?;
            who(d)
        })
    }
}

/// `[[[who's tag, name, after]…], quorum, timeout, reason required]`, all that there was to an approval at first; durations
/// as `[seconds, nanoseconds]`. Where there is more to it: `[[[[approver…], people or null for all]…], timeout, reason
/// required, ticket, separation, veto, hours, break glass, passkey]`.
pub(super) mod approval {
    use super::*;

    pub(crate) fn encode<C, W: Write>(approval: &Approval, e: &mut Encoder<W>, ctx: &mut C) -> Done<W> {
        let Approval { steps, timeout, reason_required, ticket, separation, veto, hours, break_glass, passkey } =
            approval;
        if let [Step { from, need: Need::Number(quorum) }] = &steps[..]
            && *approval
                == (Approval { reason_required: *reason_required, ..Approval::simple(from.clone(), *quorum, *timeout) })
        {
            e.array(4)?;
            put_approvers(from, e)?;
            e.u32(*quorum)?;
            put_duration(*timeout, e)?;
            return e.bool(*reason_required)?.ok();
        }
        e.array(9)?.array(steps.len() as u64)?;
        for Step { from, need } in steps {
            e.array(2)?;
            put_approvers(from, e)?;
            match need {
                Need::Number(number) => e.u32(*number)?,
                Need::All => e.null()?,
            };
        }
        put_duration(*timeout, e)?;
        e.bool(*reason_required)?;
        put_optional_str(ticket.as_deref(), e)?;
        e.array(separation.len() as u64)?;
        for role in separation {
            e.u8(match role {
                Separation::Owner => 0,
                Separation::Author => 1,
            })?;
        }
        many_who::encode(veto, e, ctx)?;
        put_hours(hours.as_ref(), e)?;
        put_optional_str(break_glass.as_deref(), e)?;
        e.bool(*passkey)?.ok()
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, ctx: &mut C) -> Result<Approval, Bad> {
        match d.array()? {
            Some(4) => {
                let (from, quorum, timeout) = (list(d, approver)?, d.u32()?, duration(d)?);
                Ok(Approval { reason_required: d.bool()?, ..Approval::simple(from, quorum, timeout) })
            }
            Some(9) => Ok(Approval {
                steps: list(d, step)?,
                timeout: duration(d)?,
                reason_required: d.bool()?,
                ticket: optional(d, text)?,
                separation: list(d, separation)?,
                veto: many_who::decode(d, ctx)?,
                hours: optional(d, hours)?,
                break_glass: optional(d, text)?,
                passkey: d.bool()?,
            }),
            found => Err(Bad::message(format!("an approval has 4 or 9 parts, not {found:?}"))),
        }
    }

    fn put_approvers<W: Write>(from: &[Approver], e: &mut Encoder<W>) -> Done<W> {
        e.array(from.len() as u64)?;
        for approver in from {
            let (tag, name) = tag_of_who(&approver.who);
            e.array(3)?.u8(tag)?.str(name)?;
            put_duration(approver.after, e)?;
        }
        Ok(())
    }

    fn approver(d: &mut Decoder<'_>) -> Result<Approver, Bad> {
        array(d, 3)?;
        Ok(Approver { who: who(d)?, after: duration(d)? })
    }

    fn step(d: &mut Decoder<'_>) -> Result<Step, Bad> {
        array(d, 2)?;
        let from = list(d, approver)?;
        let number = optional(d, |d| d.u32())?;
        Ok(Step { from, need: number.map_or(Need::All, Need::Number) })
    }

    fn separation(d: &mut Decoder<'_>) -> Result<Separation, Bad> {
        match d.u8()? {
            0 => Ok(Separation::Owner),
            1 => Ok(Separation::Author),
            tag => Err(Bad::unknown_variant(tag.into())),
        }
    }

    /// `[days as bits from Monday, from and to in minutes, zone, the rotation outside or null to refuse]`.
    fn put_hours<W: Write>(hours: Option<&Hours>, e: &mut Encoder<W>) -> Done<W> {
        let Some(Hours { days, from, to, zone, otherwise }) = hours else { return e.null()?.ok() };
        let bits = days.iter().enumerate().fold(0, |bits, (day, is)| bits | u8::from(*is) << day);
        e.array(5)?.u8(bits)?.u16(*from)?.u16(*to)?.str(zone)?;
        match otherwise {
            Otherwise::Refuse => e.null()?.ok(),
            Otherwise::OnCall(name) => e.str(name)?.ok(),
        }
    }

    fn hours(d: &mut Decoder<'_>) -> Result<Hours, Bad> {
        array(d, 5)?;
        let bits = d.u8()?;
        Ok(Hours {
            days: std::array::from_fn(|day| bits & 1 << day != 0),
            from: d.u16()?,
            to: d.u16()?,
            zone: text(d)?,
            otherwise: optional(d, text)?.map_or(Otherwise::Refuse, Otherwise::OnCall),
        })
    }

    fn put_duration<W: Write>(duration: Duration, e: &mut Encoder<W>) -> Done<W> {
        e.array(2)?.u64(duration.as_secs())?.u32(duration.subsec_nanos())?.ok()
    }

    fn duration(d: &mut Decoder<'_>) -> Result<Duration, Bad> {
        array(d, 2)?;
        let (seconds, nanoseconds) = (d.u64()?, d.u32()?);
        if nanoseconds >= 1_000_000_000 {
            return Err(Bad::message("a duration with a second or more of nanoseconds"));
        }
        Ok(Duration::new(seconds, nanoseconds))
    }
}

/// `[operation, kind, wire, text, parameters, effects, objects, unknown, state, decide, rule, why, observed]`.
impl<C> Encode<C> for Asked {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, ctx: &mut C) -> Done<W> {
        e.array(13)?;
        id::encode(&self.operation, e, ctx)?;
        e.str(&self.kind)?.bytes(&self.wire)?;
        put_part(&self.text, &self.wire, e)?;
        e.array(self.parameters.len() as u64)?;
        for parameter in &self.parameters {
            e.array(3)?.str(&parameter.kind)?.bool(parameter.binary)?;
            match &parameter.value {
                Some(value) => put_part(value, &self.wire, e)?,
                None => e.null()?.ok()?,
            }
        }
        e.u16(self.effects.bits())?.array(self.objects.len() as u64)?;
        for object in &self.objects {
            e.array(3)?.str(&object.kind)?;
            put_optional_str(object.schema.as_deref(), e)?;
            e.str(&object.name)?;
        }
        self.unknown.encode(e, ctx)?;
        e.map(self.state.len() as u64)?;
        for (name, value) in &self.state {
            e.str(name)?.str(value)?;
        }
        e.u8(tag_of(self.decide))?.str(&self.rule)?.str(&self.why)?;
        match &self.observed {
            Some((decide, rule)) => e.array(2)?.u8(tag_of(*decide))?.str(rule)?.ok(),
            None => e.null()?.ok(),
        }
    }
}

impl<'b, C> Decode<'b, C> for Asked {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, Bad> {
        array(d, 13)?;
        let operation = id::decode(d, ctx)?;
        let kind = text(d)?;
        let wire = bytes::decode(d, ctx)?;
        Ok(Asked {
            operation,
            kind,
            text: part(d, &wire)?,
            parameters: list(d, |d| parameter(d, &wire))?,
            effects: Effects::from_bits(d.u16()?),
            objects: list(d, object)?,
            unknown: list(d, text)?,
            state: state(d)?,
            decide: decide(d)?,
            rule: text(d)?,
            why: text(d)?,
            observed: optional(d, observed)?,
            wire,
        })
    }
}

/// Bytes that lie inside `wire` are stored as `[offset, length]`, others as themselves.
///
/// Sameness is by address: the dialect hands out slices of the frame, and an equal copy elsewhere is stored in full.
fn put_part<W: Write>(part: &Bytes, wire: &Bytes, e: &mut Encoder<W>) -> Done<W> {
    let (start, end) = (part.as_ptr() as usize, part.as_ptr() as usize + part.len());
    let (from, to) = (wire.as_ptr() as usize, wire.as_ptr() as usize + wire.len());
    if !part.is_empty() && from <= start && end <= to {
        e.array(2)?.u64((start - from) as u64)?.u64(part.len() as u64)?.ok()
    } else {
        e.bytes(part)?.ok()
    }
}

fn part(d: &mut Decoder<'_>, wire: &Bytes) -> Result<Bytes, Bad> {
    if d.datatype()? == Type::Bytes {
        return d.bytes().map(Bytes::copy_from_slice);
    }
    array(d, 2)?;
    let (offset, length) = (d.u64()?, d.u64()?);
    let end = offset.checked_add(length).filter(|end| *end <= wire.len() as u64);
    match (usize::try_from(offset), end.map(usize::try_from)) {
        (Ok(offset), Some(Ok(end))) => Ok(wire.slice(offset..end)),
        _ => Err(Bad::message("a part that lies outside its wire bytes")),
    }
}

fn parameter(d: &mut Decoder<'_>, wire: &Bytes) -> Result<Parameter, Bad> {
    array(d, 3)?;
    Ok(Parameter { kind: text(d)?, binary: d.bool()?, value: optional(d, |d| part(d, wire))? })
}

fn object(d: &mut Decoder<'_>) -> Result<Object, Bad> {
    array(d, 3)?;
    Ok(Object { kind: Cow::Owned(text(d)?), schema: optional(d, text)?, name: text(d)? })
}

fn state(d: &mut Decoder<'_>) -> Result<State, Bad> {
    let length = d.map()?.ok_or_else(|| Bad::message("a map of unstated length"))?;
    (0..length).map(|_| Ok((Cow::Owned(text(d)?), text(d)?))).collect()
}

fn observed(d: &mut Decoder<'_>) -> Result<(Decide, String), Bad> {
    array(d, 2)?;
    Ok((decide(d)?, text(d)?))
}

const fn tag_of(decide: Decide) -> u8 {
    match decide {
        Decide::Allow => 0,
        Decide::Hold => 1,
        Decide::Refuse => 2,
        Decide::HoldCommit => 3,
    }
}

fn decide(d: &mut Decoder<'_>) -> Result<Decide, Bad> {
    match d.u8()? {
        0 => Ok(Decide::Allow),
        1 => Ok(Decide::Hold),
        2 => Ok(Decide::Refuse),
        3 => Ok(Decide::HoldCommit),
        tag => Err(Bad::unknown_variant(tag.into())),
    }
}
