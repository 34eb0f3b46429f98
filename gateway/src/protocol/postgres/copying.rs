//! COPY, both ways: what the client sends during one, and how what the backend sends is masked.

use bytes::{BufMut, BytesMut};

use super::{
    classify::{self, Statement},
    dialect::{PostgresDialect, Rows},
    mask::{CopyFormat, CopyOut, CopyPlan, CopySource},
    pending::What,
    replies::{Fate, references},
    wire,
};
use crate::{
    gate::{Exchange, Unmaskable},
    protocol::reader::Reader,
};

impl PostgresDialect {
    /// The backend now reads COPY data, and ignores every `Sync` that comes before its end.
    pub(super) fn copy_in(&mut self) -> Result<Fate, Unmaskable> {
        self.front("CopyInResponse", |what| matches!(what, What::Query(_) | What::Execute(_)))?;
        let ended = self.pending.iter().any(|one| matches!(one.what, What::CopyEnd));
        self.copying_in = !ended;
        let during = self.pending.iter_mut().skip(1).take_while(|one| !matches!(one.what, What::CopyEnd));
        for one in during.filter(|one| matches!(one.what, What::Sync)) {
            one.what = What::MaybeSync;
        }
        Ok(Fate::Pass)
    }

    /// The COPY went well, so the backend did ignore what came during it.
    pub(super) fn end_of_copy_in(&mut self) {
        let Some(end) = self.pending.iter().position(|one| matches!(one.what, What::CopyEnd)) else { return };
        if self.pending.iter().take(end).all(|one| matches!(one.what, What::MaybeSync)) {
            self.pending.drain(..=end);
        }
    }

    pub(super) fn copy_out(&mut self, body: &[u8]) -> Result<Fate, Unmaskable> {
        self.front("CopyOutResponse", |what| matches!(what, What::Query(_) | What::Execute(_)))?;
        if self.masker.masks.is_empty() {
            return Ok(Fate::Pass);
        }
        let mut reader = Reader::new(body);
        let binary = reader.byte()? == 1;
        let columns =
            usize::try_from(reader.i16()?).map_err(|_| Unmaskable::Malformed("a negative count of columns".into()))?;
        let portal = match self.pending.front().map(|front| &front.what) {
            Some(What::Query(portal) | What::Execute(portal)) => portal.clone(),
            _ => unreachable!("the front was just looked at"),
        };
        let withheld = || Unmaskable::Withheld("COPY to the client that no statement was seen to ask for".into());
        let prepared = portal.prepared.as_ref().ok_or_else(withheld)?;
        let mut copies = prepared.classified.statements.iter().filter_map(|statement| match statement {
            copy @ Statement::Copy { to_stdout: true, .. } => Some(copy),
            _ => None,
        });
        // Of two COPYs in one text the gateway could not tell which this is.
        let (Some(copy), None) = (copies.next(), copies.next()) else { return Err(withheld()) };
        let format = copy_format(copy).map_err(Unmaskable::Withheld)?;
        if (format == CopyFormat::Binary) != binary {
            return Err(Unmaskable::Malformed("a COPY in another format than was asked for".into()));
        }
        let reads = references(&prepared.classified.reads);
        let Statement::Copy { relation, columns: named, query, .. } = copy else {
            unreachable!("only COPYs were kept")
        };
        let source = match (query, relation) {
            (true, _) => CopySource::Query(&reads),
            (false, Some((schema, name))) => CopySource::Table { schema: schema.as_deref(), name, columns: named },
            (false, None) => CopySource::Unknown,
        };
        let plan = CopyPlan::new(source, columns, binary, &self.masker.masks, self.catalog().as_deref())?;
        let encoding = self.state.get("client_encoding").map_or("UTF8", String::as_str);
        let copy = CopyOut::new(plan, format, encoding)?;
        self.rows = Rows::Copy(Box::new(copy));
        Ok(Fate::Pass)
    }

    /// What was held back of a last line without an end goes out before the end of the data.
    pub(super) fn copy_done(&mut self, message: &[u8], exchange: &mut Exchange) -> Result<Fate, Unmaskable> {
        let rows = std::mem::replace(&mut self.rows, Rows::Undescribed);
        let Rows::Copy(mut copy) = rows else { return Ok(Fate::Pass) };
        let mut payload = BytesMut::new();
        exchange.masked += copy.finish(&self.masker, &mut payload)?;
        if payload.is_empty() {
            return Ok(Fate::Pass);
        }
        let mut out = BytesMut::new();
        wire::message(&mut out, b'd', |out| out.put_slice(&payload));
        out.put_slice(message);
        Ok(Fate::Instead(out.freeze()))
    }
}

/// A COPY's format as the masks take it.
fn copy_format(copy: &Statement) -> Result<CopyFormat, String> {
    let Statement::Copy { format, options, .. } = copy else { unreachable!("only COPYs come here") };
    let byte = |name: &str, default: u8| match options.get(name).map(String::as_bytes) {
        None => Ok(default),
        Some(&[byte]) => Ok(byte),
        Some(_) => Err(format!("its {name} is not one byte")),
    };
    let null = |default: &str| options.get("null").cloned().unwrap_or_else(|| default.to_owned()).into_bytes();
    // Bare, `true`, `on`, `1` or `match`: a header line in any case.
    let off = |value: &str| matches!(value, "false" | "off" | "0");
    let header = options.get("header").is_some_and(|value| !off(&value.to_ascii_lowercase()));
    Ok(match format {
        classify::CopyFormat::Text => {
            CopyFormat::Text { delimiter: byte("delimiter", b'\t')?, null: null("\\N"), header }
        }
        classify::CopyFormat::Csv => {
            let quote = byte("quote", b'"')?;
            let (delimiter, escape) = (byte("delimiter", b',')?, byte("escape", quote)?);
            CopyFormat::Csv { delimiter, null: null(""), quote, escape, header }
        }
        classify::CopyFormat::Binary => CopyFormat::Binary,
        classify::CopyFormat::Other => return Err("its format is not one that the gateway knows".into()),
    })
}
