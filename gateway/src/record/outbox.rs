//! The outbox of channels: the record itself. Every transition of a request is an entry, so what is left to tell is what
//! stands behind a channel's cursor.
//!
//! # Correctness
//! An entry and its place in the index are one write, so nothing is told that did not happen and nothing that happened is
//! forgotten. A cursor moves once a message has been taken, together with what the channel keeps of it: a gateway that
//! is killed in between tells it again.

use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::{
    Head, RecordError, Recorded, Recorder,
    entry::Body,
    read,
    store::{
        Direction, Store,
        column::{Announced, ChannelKey, Cursors, DeskEntries, Entries, RequestEntries},
    },
    write::indexed,
};
use crate::operation::{GrantId, RequestId};

/// Whether people may want to hear of it.
pub fn concerns_the_desk(body: &Body) -> bool {
    match body {
        Body::Requested(_)
        | Body::Previewed { .. }
        | Body::Asked { .. }
        | Body::Said { .. }
        | Body::BrokeGlass(_)
        | Body::Decided { .. }
        | Body::Closed { .. }
        | Body::Granted(_)
        | Body::GrantEnded { .. } => true,
        Body::GrantUsed { left, .. } => *left == 0,
        _ => false,
    }
}

/// What one channel has yet to tell.
pub struct Outbox {
    recorder: Recorder,
    channel: ChannelKey,
    /// What tells this record from others, in every message's name.
    node: String,
}

/// What a channel keeps of its message about a request, to change or answer it later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivered {
    /// As it was.
    Same,
    /// This.
    Keep(RequestId, Vec<u8>),
    /// Nothing more: all is said.
    Forget(RequestId),
}

impl Recorder {
    /// The outbox of the channel called `name`. A channel that is new begins with what comes next.
    ///
    /// # Errors
    /// The record cannot be read or written.
    pub fn outbox(&self, name: &str) -> Result<Outbox, RecordError> {
        let (store, head) = (self.log.store()?, self.log.head()?);
        let channel = channel_key(name);
        // A cursor from before a power loss may stand behind the end of what was kept.
        if store.fetch::<Cursors>(&channel)?.is_none_or(|cursor| cursor > head.position) {
            let mut batch = store.batch();
            batch.put::<Cursors>(&channel, &head.position);
            store.write(batch)?;
        }
        let genesis = Head::genesis(&store.node()?).hash.to_string();
        Ok(Outbox { recorder: self.clone(), channel, node: genesis[..16].to_owned() })
    }

    /// Forgets channels that are no more: one that comes back is new.
    ///
    /// # Errors
    /// The record cannot be read or written.
    pub fn forget_channels_but(&self, names: &[&str]) -> Result<(), RecordError> {
        let store = self.log.store()?;
        let kept: Vec<_> = names.iter().map(|name| channel_key(name)).collect();
        let mut batch = store.batch();
        for item in store.scan::<Cursors>(None, Direction::Forward) {
            let (channel, _) = item?;
            if !kept.contains(&channel) {
                batch.delete::<Cursors>(&channel);
            }
        }
        for item in store.scan::<Announced>(None, Direction::Forward) {
            let ((channel, request), _) = item?;
            if !kept.contains(&channel) {
                batch.delete::<Announced>(&(channel, request));
            }
        }
        store.write(batch)
    }

    /// Moves with every entry that concerns the desk.
    ///
    /// # Errors
    /// The record is broken for good.
    pub fn desk_moves(&self) -> Result<watch::Receiver<u64>, RecordError> {
        self.log.desk()
    }

    /// Everything about a request so far, in order.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn entries_of(&self, request: RequestId) -> Result<Vec<Recorded>, RecordError> {
        entries_of(&*self.log.store()?, request)
    }

    /// Everything about a grant so far, in order.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn entries_of_grant(&self, grant: GrantId) -> Result<Vec<Recorded>, RecordError> {
        entries_of(&*self.log.store()?, indexed(grant))
    }
}

impl Outbox {
    /// The next entry to tell, on the disk by now; `None` where all is told.
    ///
    /// # Errors
    /// The record cannot be read.
    pub async fn next(&self) -> Result<Option<Recorded>, RecordError> {
        let (store, written) = self.recorder.log.written()?;
        let from = self.cursor(&store)? + 1;
        let first = store.scan::<DeskEntries>(Some(&from), Direction::Forward).next();
        let Some((position, ())) = first.transpose()? else { return Ok(None) };
        let Some(value) = store.fetch::<Entries>(&position)? else { return Ok(None) };
        drop(store);
        if let Some(syncer) = &self.recorder.syncer {
            syncer.wait_for(written).await?;
        }
        read::open(position, &value).map(Some)
    }

    /// How many entries there are to tell, counted up to `most`.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn backlog(&self, most: usize) -> Result<usize, RecordError> {
        let store = self.recorder.log.store()?;
        let from = self.cursor(&store)? + 1;
        Ok(store.scan::<DeskEntries>(Some(&from), Direction::Forward).take(most).count())
    }

    /// The entry at `position` has been dealt with.
    ///
    /// # Errors
    /// That cannot be written: it will be told again.
    pub fn advance(&self, position: u64, delivered: Delivered) -> Result<(), RecordError> {
        let store = self.recorder.log.store()?;
        let mut batch = store.batch();
        batch.put::<Cursors>(&self.channel, &position);
        match delivered {
            Delivered::Same => {}
            Delivered::Keep(request, bytes) => batch.put::<Announced>(&(self.channel, request), &bytes),
            Delivered::Forget(request) => batch.delete::<Announced>(&(self.channel, request)),
        }
        store.write(batch)
    }

    /// What was kept of the message about a request; `None` where there was none.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn kept(&self, request: RequestId) -> Result<Option<Vec<u8>>, RecordError> {
        self.recorder.log.store()?.fetch::<Announced>(&(self.channel, request))
    }

    /// The name of the message about the entry at `position`: the same each time it is told, and no other record's.
    pub fn message(&self, position: u64) -> String {
        format!("{}-{position}", self.node)
    }

    /// The record.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    fn cursor(&self, store: &Store) -> Result<u64, RecordError> {
        match store.fetch::<Cursors>(&self.channel)? {
            Some(cursor) => Ok(cursor),
            // The record was opened again after a failed write, without it.
            None => Ok(self.recorder.log.head()?.position),
        }
    }
}

fn entries_of(store: &Store, request: RequestId) -> Result<Vec<Recorded>, RecordError> {
    let mut entries = Vec::new();
    for item in store.scan::<RequestEntries>(Some(&(request, 0)), Direction::Forward) {
        let ((found, position), ()) = item?;
        if found != request {
            break;
        }
        if let Some(value) = store.fetch::<Entries>(&position)? {
            entries.push(read::open(position, &value)?);
        }
    }
    Ok(entries)
}

fn channel_key(name: &str) -> ChannelKey {
    let hash = Sha256::new().chain_update(b"holdpoint channel\0").chain_update(name).finalize();
    let mut key = [0; 16];
    key.copy_from_slice(&hash[..16]);
    ChannelKey(key)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::record::{
        Options,
        entry::Outcome,
        samples::{REQUEST, closed, decided, one_of_each},
    };

    async fn told(outbox: &Outbox) -> Vec<u64> {
        let mut told = Vec::new();
        while let Some(recorded) = outbox.next().await.expect("readable") {
            told.push(recorded.position);
            outbox.advance(recorded.position, Delivered::Same).expect("writable");
        }
        told
    }

    fn append(recorder: &Recorder, entries: Vec<crate::record::entry::Entry>) {
        for entry in entries {
            let _ = recorder.append_written(entry).expect("memory takes it");
        }
    }

    #[tokio::test]
    async fn a_new_channel_begins_with_what_comes_next_and_hears_of_the_desk_alone() {
        let recorder = Recorder::in_memory();
        append(&recorder, one_of_each());
        let outbox = recorder.outbox("ops").expect("made");
        assert_eq!((told(&outbox).await, outbox.backlog(9).expect("readable")), (vec![], 0));
        let before = recorder.head().expect("readable").position;
        append(&recorder, one_of_each());
        let (mut wanted, mut all) =
            (Vec::new(), recorder.records().expect("open").entries(before + 1).collect::<Vec<_>>());
        for recorded in all.drain(..).map(|recorded| recorded.expect("readable")) {
            if concerns_the_desk(&recorded.entry.body) {
                wanted.push(recorded.position);
            }
        }
        assert!(wanted.len() > 6, "{wanted:?}");
        assert_eq!(outbox.backlog(1000).expect("readable"), wanted.len());
        assert_eq!(outbox.backlog(2).expect("readable"), 2);
        assert_eq!(told(&outbox).await, wanted);
        assert_eq!(told(&recorder.outbox("ops").expect("made")).await, Vec::<u64>::new(), "what was told is told");
        assert_ne!(outbox.message(1), outbox.message(2));
    }

    #[tokio::test]
    async fn what_was_told_and_kept_survives_and_a_channel_that_is_gone_is_forgotten() {
        let dir = TempDir::new().expect("a temporary directory");
        let open = || Recorder::open(dir.path(), &Options::default()).expect("opens");
        let recorder = open();
        let outbox = recorder.outbox("ops").expect("made");
        append(&recorder, vec![decided(1, true), decided(2, true), closed(Outcome::Approved)]);
        outbox.advance(1, Delivered::Keep(REQUEST, b"ts".to_vec())).expect("writable");
        drop((outbox, recorder));
        let recorder = open();
        let outbox = recorder.outbox("ops").expect("made");
        assert_eq!(outbox.kept(REQUEST).expect("readable"), Some(b"ts".to_vec()));
        assert_eq!(outbox.next().await.expect("readable").map(|recorded| recorded.position), Some(2));
        outbox.advance(2, Delivered::Forget(REQUEST)).expect("writable");
        assert_eq!(outbox.kept(REQUEST).expect("readable"), None);
        recorder.forget_channels_but(&["ops"]).expect("writable");
        assert_eq!(outbox.backlog(9).expect("readable"), 1);
        recorder.forget_channels_but(&["other"]).expect("writable");
        assert_eq!(told(&recorder.outbox("ops").expect("made")).await, Vec::<u64>::new(), "it is new again");
    }
}
