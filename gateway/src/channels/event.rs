//! What happened at the desk, typed once for every channel: an [`Event`] about a [`Case`].
//!
//! # Correctness
//! An event says what was so when it happened (`then`) and what is so now (`now`): a channel that comes back from an
//! outage pages nobody for what is over.

use std::time::Duration;

use crate::{
    operation::{Impact, RequestId},
    policy::{Approval, Approver},
    record::{
        RecordError, Recorded, Recorder, concerns_the_desk,
        entry::{Body, Connected, Entry, Granted, Outcome, Requested, Timestamp},
    },
};

/// Who is asked so soon after a request was opened is asked by it.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Something that happened to a request.
#[derive(Debug, Clone)]
pub(super) struct Event {
    /// Its name: the same each time it is told.
    pub(super) id: String,
    /// When.
    pub(super) at: Timestamp,
    /// What.
    pub(super) what: What,
    /// The request as it stood then.
    pub(super) then: Case,
    /// The request as it stands now.
    pub(super) now: Case,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// People are asked.
    Opened,
    /// What it would touch is known.
    Previewed,
    /// More people are asked: the next step, or those who stand in.
    Asked,
    /// Somebody said something that decides nothing.
    Said,
    /// Somebody approved, and more are needed.
    Counted,
    /// One person released it alone, in an emergency.
    BrokenGlass,
    /// It was released.
    Approved,
    /// Somebody said no.
    Denied,
    /// Time ran out.
    Expired,
    /// The client took it back.
    Withdrawn,
    /// The gateway stopped.
    Restarted,
    /// An approval became a grant.
    Granted,
    /// The grant ended.
    GrantEnded,
}

impl What {
    pub(super) const ALL: [What; 13] = [
        What::Opened,
        What::Previewed,
        What::Asked,
        What::Said,
        What::Counted,
        What::BrokenGlass,
        What::Approved,
        What::Denied,
        What::Expired,
        What::Withdrawn,
        What::Restarted,
        What::Granted,
        What::GrantEnded,
    ];

    /// The word in settings and messages.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            What::Opened => "opened",
            What::Previewed => "previewed",
            What::Asked => "asked",
            What::Said => "said",
            What::Counted => "counted",
            What::BrokenGlass => "broken_glass",
            What::Approved => "approved",
            What::Denied => "denied",
            What::Expired => "expired",
            What::Withdrawn => "withdrawn",
            What::Restarted => "restarted",
            What::Granted => "granted",
            What::GrantEnded => "grant_ended",
        }
    }

    /// Whether the request is over with it.
    pub(super) const fn is_an_end(self) -> bool {
        matches!(self, What::Approved | What::Denied | What::Expired | What::Withdrawn | What::Restarted)
    }
}

impl From<Outcome> for What {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Approved => What::Approved,
            Outcome::Denied => What::Denied,
            Outcome::Expired => What::Expired,
            Outcome::Withdrawn => What::Withdrawn,
            Outcome::Restarted => What::Restarted,
        }
    }
}

/// A request with what happened to it, up to a moment.
#[derive(Debug, Clone)]
pub(super) struct Case {
    /// When it was opened.
    pub(super) opened: Timestamp,
    /// As opened.
    pub(super) requested: Requested,
    /// Who asks, where the record has it.
    pub(super) connected: Option<Connected>,
    /// What it would touch.
    pub(super) impact: Option<Impact>,
    /// What people said, in order.
    pub(super) words: Vec<Word>,
    /// Who was asked last, in words.
    pub(super) asked: Vec<String>,
    /// What people said without deciding, in order: who, and what.
    pub(super) said: Vec<(String, String)>,
    /// Who released it alone, and why.
    pub(super) broke: Option<(String, String)>,
    /// The grant that it became.
    pub(super) granted: Option<Granted>,
    /// How that ended, in words.
    pub(super) grant_ended: Option<String>,
    /// How and when it ended.
    pub(super) closed: Option<(Timestamp, Outcome)>,
    /// The position of the newest entry about it that is an event.
    pub(super) newest: u64,
}

/// One person's decision.
#[derive(Debug, Clone)]
pub(super) struct Word {
    pub(super) at: Timestamp,
    pub(super) by: String,
    pub(super) approve: bool,
    pub(super) reason: Option<String>,
}

impl Event {
    /// What the entry says to people; `None` where it says nothing by itself.
    ///
    /// # Errors
    /// The record cannot be read.
    pub(super) fn read(recorder: &Recorder, recorded: &Recorded, id: String) -> Result<Option<Self>, RecordError> {
        let Some((request, grant)) = subject(recorder, &recorded.entry.body)? else { return Ok(None) };
        let mut entries = recorder.entries_of(request)?;
        if let Some(granted) = grant {
            entries.extend(recorder.entries_of_grant(granted.grant)?);
        }
        let (Some(now), Some(then)) =
            (Case::of(recorder, &entries, u64::MAX)?, Case::of(recorder, &entries, recorded.position)?)
        else {
            return Ok(None);
        };
        let Some(what) = what(&recorded.entry, &then) else { return Ok(None) };
        Ok(Some(Self { id, at: recorded.entry.at, what, then, now }))
    }

    /// The request.
    pub(super) fn request(&self) -> RequestId {
        self.then.requested.request
    }

    /// Whether nobody need hear of it any more: what it speaks of is over, or nobody was told that it began.
    /// `announced`: there was a message about the request; `announces`: the channel tells when one is opened.
    pub(super) fn is_stale(&self, announced: bool, announces: bool) -> bool {
        let over = self.now.closed.is_some();
        match self.what {
            What::Opened => over,
            What::Previewed | What::Asked | What::Said | What::Counted => over || announces && !announced,
            // Whoever was passed over is told, whatever they were told before.
            What::BrokenGlass => false,
            What::Granted => self.now.grant_ended.is_some(),
            _ => announces && !announced,
        }
    }
}

/// The request that an entry is about, and the grant where it is about one.
fn subject(recorder: &Recorder, body: &Body) -> Result<Option<(RequestId, Option<Granted>)>, RecordError> {
    Ok(match body {
        Body::Requested(requested) => Some((requested.request, None)),
        Body::Previewed { request, .. }
        | Body::Asked { request, .. }
        | Body::Said { request, .. }
        | Body::Decided { request, .. }
        | Body::Closed { request, .. } => Some((*request, None)),
        Body::BrokeGlass(broken) => Some((broken.request, None)),
        Body::Granted(granted) => Some((granted.request, Some((**granted).clone()))),
        Body::GrantEnded { grant, .. } | Body::GrantUsed { grant, .. } => {
            let made = recorder.entries_of_grant(*grant)?.into_iter().find_map(|recorded| match recorded.entry.body {
                Body::Granted(granted) => Some(*granted),
                _ => None,
            });
            made.map(|granted| (granted.request, Some(granted)))
        }
        _ => None,
    })
}

fn what(entry: &Entry, then: &Case) -> Option<What> {
    match &entry.body {
        // Those who are asked at once are asked by the request itself.
        Body::Asked { step, .. } => (*step > 0 || entry.at.since(then.opened) >= AT_ONCE).then_some(What::Asked),
        Body::Said { .. } => Some(What::Said),
        Body::BrokeGlass(_) => Some(What::BrokenGlass),
        Body::Requested(_) => Some(What::Opened),
        Body::Previewed { .. } => Some(What::Previewed),
        // The end, which follows at once, says the rest.
        Body::Decided { approve, .. } => (*approve && then.missing() > 0).then_some(What::Counted),
        Body::Closed { outcome, .. } => Some((*outcome).into()),
        Body::Granted(_) => Some(What::Granted),
        Body::GrantEnded { .. } | Body::GrantUsed { left: 0, .. } => Some(What::GrantEnded),
        _ => None,
    }
}

impl Case {
    /// Everything about a request that is open or was, as the desk knows it now.
    ///
    /// # Errors
    /// The record cannot be read.
    pub(super) fn read(recorder: &Recorder, request: RequestId) -> Result<Option<Self>, RecordError> {
        Self::of(recorder, &recorder.entries_of(request)?, u64::MAX)
    }

    fn of(recorder: &Recorder, entries: &[Recorded], up_to: u64) -> Result<Option<Self>, RecordError> {
        let mut case: Option<Self> = None;
        for Recorded { position, entry } in entries.iter().filter(|recorded| recorded.position <= up_to) {
            if let (Body::Requested(requested), None) = (&entry.body, &case) {
                let session = entry.session;
                case = Some(Self {
                    opened: entry.at,
                    requested: (**requested).clone(),
                    connected: match session {
                        Some(session) => connected(recorder, session)?,
                        None => None,
                    },
                    impact: None,
                    words: Vec::new(),
                    asked: Vec::new(),
                    said: Vec::new(),
                    broke: None,
                    granted: None,
                    grant_ended: None,
                    closed: None,
                    newest: *position,
                });
            }
            if let Some(case) = &mut case {
                case.add(*position, entry.at, &entry.body);
            }
        }
        Ok(case)
    }

    fn add(&mut self, position: u64, at: Timestamp, body: &Body) {
        if concerns_the_desk(body) {
            self.newest = self.newest.max(position);
        }
        match body {
            Body::Previewed { impact, .. } => self.impact = Some(impact.clone()),
            Body::Decided { by, approve, reason, .. } => {
                self.words.push(Word { at, by: by.clone(), approve: *approve, reason: reason.clone() });
            }
            Body::Asked { who, on_call, .. } => {
                let on_call = on_call.iter().map(|name| format!("{name}, who is on call"));
                self.asked = who.iter().map(ToString::to_string).chain(on_call).collect();
            }
            Body::Said { by, kind, text, .. } => self.said.push((format!("{} by {by}", kind.as_str()), text.clone())),
            Body::BrokeGlass(broken) => self.broke = Some((broken.by.clone(), broken.reason.clone())),
            Body::Closed { outcome, .. } => self.closed = Some((at, *outcome)),
            Body::Granted(granted) => self.granted = Some((**granted).clone()),
            Body::GrantEnded { by, reason, .. } => {
                let by = by.as_ref().map(|by| format!("revoked by {by}"));
                let why = reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
                self.grant_ended = Some(by.map_or_else(|| "its time ran out".to_owned(), |by| by + &why));
            }
            Body::GrantUsed { left: 0, .. } => self.grant_ended = Some("its uses were used up".to_owned()),
            _ => {}
        }
    }

    /// Until when people may decide.
    pub(super) fn deadline(&self) -> Timestamp {
        self.opened.after(self.requested.approval.timeout)
    }

    /// How long is left; nothing where it is over.
    pub(super) fn left(&self, now: Timestamp) -> Duration {
        self.deadline().since(now)
    }

    /// Who has approved.
    pub(super) fn approved_by(&self) -> impl Iterator<Item = &str> {
        self.words.iter().filter(|word| word.approve).map(|word| word.by.as_str())
    }

    /// How many approvals are still needed.
    pub(super) fn missing(&self) -> usize {
        self.requested.approval.people().saturating_sub(self.approved_by().count())
    }

    /// Where it stands.
    pub(super) fn stands(&self) -> What {
        match (&self.closed, &self.granted) {
            (_, Some(_)) if self.grant_ended.is_some() => What::GrantEnded,
            (_, Some(_)) => What::Granted,
            _ if self.broke.is_some() => What::BrokenGlass,
            (Some((_, outcome)), _) => (*outcome).into(),
            (None, _) if self.approved_by().next().is_some() => What::Counted,
            (None, _) => What::Opened,
        }
    }

    /// What people approve now: see `gate::digest`.
    pub(super) fn digest(&self) -> crate::operation::Digest {
        match &self.impact {
            Some(impact) => impact.bound_to(&self.requested.digest),
            None => self.requested.digest,
        }
    }
}

/// Those who may decide.
pub(super) fn asked(approval: &Approval) -> impl Iterator<Item = &Approver> {
    approval.approvers()
}

/// Those who may decide, in words.
pub(super) fn asked_in_words(approval: &Approval) -> Vec<String> {
    asked(approval).map(Approver::to_string).collect()
}

fn connected(recorder: &Recorder, session: crate::operation::SessionId) -> Result<Option<Connected>, RecordError> {
    let first = recorder.records()?.session(session, 0).next().transpose()?;
    Ok(first.and_then(|recorded| match recorded.entry.body {
        Body::Connected(connected) => Some(*connected),
        _ => None,
    }))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::policy::Who;
    use crate::{
        channels::filter::Filter,
        config::About,
        operation::{Digest, Effects, GrantId, Id, OperationId, SessionId},
        policy::Decide,
        record::entry::{Asked, Entry},
    };

    pub(in crate::channels) const REQUEST: RequestId = Id::from_bytes([0x33; 16]);

    /// A request for `text`, by a bot with a hostile name.
    pub(in crate::channels) fn requested(text: &[u8], quorum: u32) -> Requested {
        let asked = Asked {
            operation: OperationId::now(),
            kind: "query".to_owned(),
            text: bytes::Bytes::copy_from_slice(text),
            wire: bytes::Bytes::copy_from_slice(text),
            parameters: vec![crate::operation::Parameter {
                kind: "text".to_owned(),
                binary: false,
                value: Some(bytes::Bytes::from_static(b"parameter-canary")),
            }],
            effects: [crate::operation::Effect::Delete].into_iter().collect::<Effects>(),
            objects: vec![crate::operation::Object {
                kind: "table".into(),
                schema: Some("public".to_owned()),
                name: "or<ders>".to_owned(),
            }],
            unknown: Vec::new(),
            state: Default::default(),
            decide: Decide::Hold,
            rule: "deletes".to_owned(),
            why: "deletes need a *second* pair of <eyes>".to_owned(),
            observed: None,
        };
        let from = vec![Approver { who: Who::Group("dba".to_owned()), after: Duration::ZERO }];
        let approval = Approval::simple(from, quorum, Duration::from_secs(900));
        Requested {
            request: REQUEST,
            asked,
            digest: Digest([0x55; 32]),
            approval,
            workload: "ci\r\nBcc: x@y.example <!channel>".to_owned(),
            resource: "shop".to_owned(),
            waits: true,
            shape: None,
            barred: None,
        }
    }

    pub(in crate::channels) fn append(recorder: &Recorder, body: Body) -> Recorded {
        let entry = Entry { at: Timestamp::now(), session: Some(SessionId::from_bytes([1; 16])), body };
        let receipt = recorder.append_written(entry.clone()).expect("memory takes it");
        Recorded { position: receipt.position(), entry }
    }

    pub(in crate::channels) fn decided(approve: bool, by: &str) -> Body {
        Body::Decided {
            request: REQUEST,
            by: by.to_owned(),
            uid: None,
            approve,
            reason: Some("seen <!here>".to_owned()),
            digest: Digest([0x55; 32]),
            person: None,
            proof: None,
            terms: None,
            counts: None,
        }
    }

    pub(in crate::channels) fn closed(outcome: Outcome) -> Body {
        Body::Closed { request: REQUEST, outcome }
    }

    /// The event of each entry.
    fn events(recorder: &Recorder, entries: &[Recorded]) -> Vec<Option<Event>> {
        let read = |recorded| Event::read(recorder, recorded, "id".to_owned()).expect("readable");
        entries.iter().map(read).collect()
    }

    pub(in crate::channels) fn opened(text: &[u8]) -> Event {
        let recorder = Recorder::in_memory();
        let entry = append(&recorder, Body::Requested(Box::new(requested(text, 2))));
        Event::read(&recorder, &entry, "node-7".to_owned()).expect("readable").expect("an event")
    }

    #[test]
    fn each_entry_is_one_event_or_none_and_knows_what_was_so_then_and_now() {
        let recorder = Recorder::in_memory();
        let grant = GrantId::now();
        let granted = Granted {
            grant,
            request: REQUEST,
            uses: 2,
            expires: Timestamp::now(),
            any: Vec::new(),
            by: vec!["ada".to_owned()],
        };
        let used = |left| Body::GrantUsed { grant, operation: OperationId::now(), left, shape: None };
        let bodies = [
            Body::Requested(Box::new(requested(b"DELETE", 2))),
            Body::Previewed { request: REQUEST, impact: Impact::unknown("busy") },
            decided(true, "ada"),
            decided(true, "bob"),
            Body::Granted(Box::new(granted)),
            closed(Outcome::Approved),
            used(1),
            used(0),
        ];
        let entries: Vec<_> = bodies.into_iter().map(|body| append(&recorder, body)).collect();
        let events = events(&recorder, &entries);
        let whats: Vec<_> = events.iter().map(|event| event.as_ref().map(|event| event.what)).collect();
        let all = [
            Some(What::Opened),
            Some(What::Previewed),
            Some(What::Counted),
            None,
            Some(What::Granted),
            Some(What::Approved),
            None,
            Some(What::GrantEnded),
        ];
        assert_eq!(whats, all);
        let first = events[0].as_ref().expect("the first");
        assert_eq!((first.then.stands(), first.now.stands()), (What::Opened, What::Approved));
        assert_eq!((first.then.missing(), first.now.missing()), (2, 0));
        let last = events[7].as_ref().expect("the last");
        assert_eq!(
            (last.then.stands(), last.then.grant_ended.as_deref()),
            (What::GrantEnded, Some("its uses were used up"))
        );
        assert_ne!(first.then.digest(), first.now.digest(), "what people approve is what they see");
    }

    #[test]
    fn after_an_outage_nobody_is_paged_for_what_is_over() {
        let recorder = Recorder::in_memory();
        let open = append(&recorder, Body::Requested(Box::new(requested(b"DELETE", 2))));
        let counted = append(&recorder, decided(true, "ada"));
        let stale = |entry: &Recorded, announced| {
            let event = Event::read(&recorder, entry, String::new()).expect("readable").expect("an event");
            event.is_stale(announced, true)
        };
        assert!(!stale(&open, false) && !stale(&counted, true));
        assert!(stale(&counted, false), "nobody heard that it began");
        let end = append(&recorder, closed(Outcome::Withdrawn));
        assert!(stale(&open, false) && stale(&counted, true));
        assert!(!stale(&end, true), "who was paged is told that it is over");
        assert!(stale(&end, false), "who was not is left alone");
        let event = Event::read(&recorder, &end, String::new()).expect("readable").expect("an event");
        assert!(!event.is_stale(false, false), "a channel for ends hears of them");
    }

    #[test]
    fn a_filter_chooses_by_every_word_in_it() {
        let case = opened(b"DELETE").now;
        let chooses = |yaml: &str| {
            let about: About = serde_saphyr_from(yaml);
            Filter::read(&about, None).expect("it is right").chooses(&case)
        };
        for (yaml, chosen) in [
            ("{}", true),
            ("{\"groups\": \"db*\"}", true),
            ("{\"groups\": \"oncall\"}", false),
            ("{\"rules\": [\"x\", \"del*\"]}", true),
            ("{\"resources\": \"shop\", \"rules\": \"other\"}", false),
            ("{\"effects\": [\"schema\", \"delete\"]}", true),
            ("{\"effects\": [\"schema\"]}", false),
        ] {
            assert_eq!(chooses(yaml), chosen, "{yaml}");
        }
        let about = About::default();
        let only = Filter::read(&about, Some(&["denied".to_owned()])).expect("it is right");
        assert!(only.hears(What::Denied) && !only.hears(What::Opened));
        let error = Filter::read(&about, Some(&["refused".to_owned()])).map(drop).expect_err("no event");
        assert!(error.contains("`refused`") && error.contains("denied"), "{error}");
    }

    fn serde_saphyr_from(json: &str) -> About {
        serde_json::from_str(json).expect("it is right")
    }
}
