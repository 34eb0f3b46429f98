//! What a query asks and what an answer teaches. The messages themselves are forwarded as they are, but for the id.

use std::{collections::BTreeSet, net::IpAddr};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, RecordType},
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

    /// Which names have which addresses, by the chain of aliases that begins with the question.
    pub(super) fn lessons(&self, answer: &[u8]) -> Vec<Lesson> {
        let Ok(parsed) = Message::from_vec(answer) else { return Vec::new() };
        let mut chain = vec![self.query.name().clone()];
        // An alias may stand before the one that leads to it.
        while let Some(next) = next(&parsed, &chain) {
            chain.push(next);
        }
        let mut found = BTreeSet::new();
        let mut lived = 0;
        for record in parsed.answers().iter().filter(|record| chain.contains(record.name())) {
            let address: IpAddr = match record.data() {
                RData::A(v4) => v4.0.into(),
                RData::AAAA(v6) => v6.0.into(),
                _ => continue,
            };
            lived = lived.max(record.ttl());
            found.insert(address.to_canonical());
        }
        let host = |name: &Name| name.to_ascii().trim_end_matches('.').to_ascii_lowercase();
        let lesson = |name| Lesson { host: host(name), addresses: found.iter().copied().collect(), seconds: lived };
        if found.is_empty() { Vec::new() } else { chain.iter().map(lesson).collect() }
    }

    /// The answer that the server could not be asked, so that the client tries another at once.
    pub(super) fn failed(&self) -> Option<Vec<u8>> {
        let mut message = Message::error_msg(u16::from_be_bytes(self.id), OpCode::Query, ResponseCode::ServFail);
        message.add_query(self.query.clone()).set_recursion_desired(self.recursion).set_recursion_available(true);
        message.to_vec().ok()
    }
}

/// The next name of the chain; none that is in it already.
fn next(answer: &Message, chain: &[Name]) -> Option<Name> {
    let aliases = answer.answers().iter().filter(|record| chain.contains(record.name()));
    let targets = aliases.filter_map(|record| match record.data() {
        RData::CNAME(target) if !chain.contains(&target.0) => Some(target.0.clone()),
        _ => None,
    });
    targets.take(usize::from(chain.len() < LONGEST_CHAIN)).next()
}

/// A message's id is its first two bytes (RFC 1035, 4.1.1).
pub(super) fn put_id(message: &mut [u8], id: [u8; 2]) {
    if let Some(place) = message.first_chunk_mut() {
        *place = id;
    }
}

/// Aliases that are followed. Resolvers give up sooner.
const LONGEST_CHAIN: usize = 16;

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
    fn an_answer_teaches_its_chain_and_nothing_beside_it() {
        let (question, query) = asked("DB.Internal.");
        let records = vec![
            alias("b.internal.", "c.internal."),
            alias("db.internal.", "b.internal."),
            alias("c.internal.", "db.internal."),
            address("c.internal.", 1),
            address("other.internal.", 2),
        ];
        let lessons = question.lessons(&answer(query, records));
        let hosts: Vec<_> = lessons.iter().map(|lesson| lesson.host.as_str()).collect();
        assert_eq!(hosts, ["db.internal", "b.internal", "c.internal"]);
        assert!(lessons.iter().all(|lesson| lesson.addresses == [IpAddr::from([10, 0, 0, 1])]));
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
