//! What a query asks and what an answer teaches. The messages themselves are forwarded as they are, but for the id.

use std::net::IpAddr;

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        Name, RData, RecordType,
        rdata::{
            SVCB,
            svcb::{IpHint, SvcParamValue},
        },
    },
};

use crate::resources::Lesson;

/// The one question of a query.
pub(super) struct Question {
    id: [u8; 2],
    query: Query,
    recursion: bool,
}

impl Question {
    /// Of a message that is a query with one question, and no transfer of a zone.
    pub(super) fn of(message: &[u8]) -> Option<Self> {
        let parsed = Message::from_vec(message).ok()?;
        let transfer = [RecordType::AXFR, RecordType::IXFR];
        match parsed.queries() {
            [query]
                if parsed.message_type() == MessageType::Query
                    && parsed.op_code() == OpCode::Query
                    && !transfer.contains(&query.query_type()) =>
            {
                let id = parsed.id().to_be_bytes();
                Some(Self { id, query: query.clone(), recursion: parsed.recursion_desired() })
            }
            _ => None,
        }
    }

    pub(super) fn id(&self) -> [u8; 2] {
        self.id
    }

    /// Whether `answer` is a response under `id` to this question. One without a question may report an error only.
    pub(super) fn is_answered_by(&self, answer: &[u8], id: [u8; 2]) -> bool {
        let Ok(parsed) = Message::from_vec(answer) else { return false };
        let same = match parsed.queries() {
            [query] => *query == self.query,
            [] => parsed.response_code() != ResponseCode::NoError && parsed.answers().is_empty(),
            _ => false,
        };
        parsed.message_type() == MessageType::Response && parsed.id().to_be_bytes() == id && same
    }

    /// The answer that the server could not be asked, so that the client tries another at once.
    pub(super) fn failed(&self) -> Option<Vec<u8>> {
        let mut message = Message::error_msg(u16::from_be_bytes(self.id), OpCode::Query, ResponseCode::ServFail);
        message.add_query(self.query.clone()).set_recursion_desired(self.recursion).set_recursion_available(true);
        message.to_vec().ok()
    }
}

/// What stands in any section, aliases before addresses, so that an alias is known when its addresses are learnt. Clients
/// differ in what they take.
pub(super) fn lessons(answer: &[u8]) -> Vec<Lesson> {
    let Ok(parsed) = Message::from_vec(answer) else { return Vec::new() };
    let sections = [parsed.answers(), parsed.name_servers(), parsed.additionals()];
    let records = || sections.iter().copied().flatten();
    let mut lessons: Vec<_> = records()
        .filter_map(|record| Some(Lesson::Alias { name: spelt(record.name()), of: spelt(alias(record.data())?) }))
        .collect();
    // They may stand in any order, and each must be known before the next.
    let asked = parsed.queries().first().map(|query| spelt(query.name()));
    in_order(&mut lessons, asked);
    lessons.extend(records().filter_map(|record| {
        let addresses = addresses(record.data());
        let name = spelt(record.name());
        (!addresses.is_empty()).then_some(Lesson::Addresses { name, addresses, seconds: record.ttl() })
    }));
    lessons
}

fn spelt(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

/// For whom the client is to ask next.
fn alias(data: &RData) -> Option<&Name> {
    match data {
        RData::CNAME(target) => Some(&target.0),
        RData::HTTPS(service) if !service.0.target_name().is_root() => Some(service.0.target_name()),
        RData::SVCB(service) if !service.target_name().is_root() => Some(service.target_name()),
        _ => None,
    }
}

/// The chain that begins with what was asked first, in its order; whatever else there is behind it.
fn in_order(aliases: &mut [Lesson], asked: Option<String>) {
    let mut next = asked;
    for place in 0..aliases.len() {
        let is_next = |one: &Lesson| matches!(one, Lesson::Alias { name, .. } if Some(name) == next.as_ref());
        let Some(at) = aliases.get(place..).and_then(|rest| rest.iter().position(is_next)) else { return };
        aliases.swap(place, place + at);
        next = match aliases.get(place) {
            Some(Lesson::Alias { of, .. }) => Some(of.clone()),
            _ => None,
        };
    }
}

/// Also those that a service record hints at (RFC 9460).
fn addresses(data: &RData) -> Vec<IpAddr> {
    let hints = |service: &SVCB| {
        let params = service.svc_params().iter();
        let hinted = params.flat_map(|(_, value)| match value {
            SvcParamValue::Ipv4Hint(IpHint(v4)) => v4.iter().map(|one| IpAddr::V4(one.0)).collect(),
            SvcParamValue::Ipv6Hint(IpHint(v6)) => v6.iter().map(|one| IpAddr::V6(one.0).to_canonical()).collect(),
            _ => Vec::new(),
        });
        hinted.collect()
    };
    match data {
        RData::A(v4) => vec![v4.0.into()],
        RData::AAAA(v6) => vec![IpAddr::V6(v6.0).to_canonical()],
        RData::HTTPS(service) => hints(&service.0),
        RData::SVCB(service) => hints(service),
        _ => Vec::new(),
    }
}

/// A message's id is its first two bytes (RFC 1035, 4.1.1).
pub(super) fn put_id(message: &mut [u8], id: [u8; 2]) {
    if let Some(place) = message.first_chunk_mut() {
        *place = id;
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::rr::{
        Record,
        rdata::{A, CNAME},
    };

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).expect("a name")
    }

    fn asked(text: &str) -> (Question, Message) {
        let mut query = Message::new();
        query.set_id(7).add_query(Query::query(name(text), RecordType::A));
        (Question::of(&query.to_vec().expect("it fits")).expect("a question"), query)
    }

    fn address(owner: &str, last: u8) -> Record {
        Record::from_rdata(name(owner), 60, RData::A(A(Ipv4Addr::new(10, 0, 0, last))))
    }

    fn alias(owner: &str, target: &str) -> Record {
        Record::from_rdata(name(owner), 60, RData::CNAME(CNAME(name(target))))
    }

    fn answer(mut message: Message, records: Vec<Record>) -> Vec<u8> {
        message.set_message_type(MessageType::Response).add_answers(records);
        message.to_vec().expect("it fits")
    }

    #[test]
    fn an_answer_teaches_every_name_of_an_address() {
        let (_, query) = asked("DB.Internal.");
        let records = vec![
            alias("b.internal.", "c.internal."),
            alias("db.internal.", "b.internal."),
            alias("c.internal.", "db.internal."),
            address("c.internal.", 1),
            address("other.internal.", 2),
        ];
        let mut message = query;
        message.add_additional(address("extra.internal.", 3));
        let lessons = lessons(&answer(message, records));
        let alias = |name: &str, of: &str| Lesson::Alias { name: name.into(), of: of.into() };
        let at = |name: &str, last: u8| Lesson::Addresses {
            name: name.into(),
            addresses: vec![IpAddr::from([10, 0, 0, last])],
            seconds: 60,
        };
        assert_eq!(
            lessons,
            [
                alias("db.internal", "b.internal"),
                alias("b.internal", "c.internal"),
                alias("c.internal", "db.internal"),
                at("c.internal", 1),
                at("other.internal", 2),
                at("extra.internal", 3)
            ]
        );
    }

    #[test]
    fn the_hints_of_a_service_record_are_addresses() {
        use hickory_proto::rr::rdata::{HTTPS, svcb::SvcParamKey};
        let hints = vec![
            (SvcParamKey::Port, SvcParamValue::Port(443)),
            (SvcParamKey::Ipv4Hint, SvcParamValue::Ipv4Hint(IpHint(vec![A(Ipv4Addr::new(10, 0, 0, 9))]))),
        ];
        let record = Record::from_rdata(name("web.internal."), 60, RData::HTTPS(HTTPS(SVCB::new(1, name("."), hints))));
        let (_, query) = asked("web.internal.");
        let lessons = lessons(&answer(query, vec![record]));
        assert_eq!(
            lessons,
            [Lesson::Addresses { name: "web.internal".into(), addresses: vec![[10, 0, 0, 9].into()], seconds: 60 }]
        );
    }

    #[test]
    fn only_the_answer_to_the_question_counts() {
        let (question, query) = asked("db.internal.");
        let right = answer(query.clone(), vec![address("db.internal.", 1)]);
        assert!(question.is_answered_by(&right, [0, 7]));
        assert!(!question.is_answered_by(&right, [0, 8]));
        assert!(!question.is_answered_by(&right[..right.len() - 3], [0, 7]));
        assert!(!question.is_answered_by(&query.to_vec().expect("it fits"), [0, 7]));
        let (_, mut other) = asked("evil.internal.");
        other.set_id(7);
        assert!(!question.is_answered_by(&answer(other, vec![address("db.internal.", 1)]), [0, 7]));
    }

    #[test]
    fn what_is_no_query_is_no_question() {
        assert!(Question::of(&[]).is_none() && Question::of(&[0; 12]).is_none() && Question::of(&[255; 512]).is_none());
        let (_, query) = asked("db.internal.");
        assert!(Question::of(&answer(query, vec![])).is_none());
        let mut transfer = Message::new();
        transfer.add_query(Query::query(name("internal."), RecordType::AXFR));
        assert!(Question::of(&transfer.to_vec().expect("it fits")).is_none());
    }
}
