//! What the tests beside these modules share: messages, rules, and a catalog read from a real server.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::*;
use crate::mask::{Detector, MaskRule, Method, Select};

/// The rows that PostgreSQL 15 gave [`catalog::lookup_sql`] for [`column_rules`], after
/// `customers(id, name, email, ssn, doc)`, `orders(id, customer, note)`, `people(id, ssn)` partitioned with a child
/// `people_1(ssn, id)` whose column numbers differ, `"odd.s"."T x"("SSN", b)`, and these views:
/// `v_id(id, name)`, `v_ssn(id, ssn AS x, upper(ssn) AS y, id+1 AS z)`, `v_v(x AS w, id) FROM v_ssn`,
/// `v_cnt(count(*))`, `v_whole(id, row_to_json(c) j)`, `v_union(orders.note UNION customers.ssn)`,
/// `v_ord(* FROM orders)`, materialized `m_ssn(ssn, name)`. Planner statistics and a few system relations are kept.
const ROWS: &str = include_str!("catalog/postgres15.rows");

pub(super) const CUSTOMERS: u32 = 16384;
pub(super) const ORDERS: u32 = 16393;
pub(super) const PEOPLE: u32 = 16398;
pub(super) const PEOPLE_1: u32 = 16401;

pub(super) fn column_rules() -> Vec<MaskRule> {
    let email = Select::column("public.customers.email").expect("a column");
    vec![
        MaskRule { select: email, with: Method::Partial },
        MaskRule { select: Select::Name("ssn".into()), with: Method::Redact },
    ]
}

pub(super) fn detect_rule() -> MaskRule {
    MaskRule { select: Select::Detect(vec![Detector::Card, Detector::Email]), with: Method::Redact }
}

pub(super) fn masker(rules: &[MaskRule]) -> Masker {
    Masker { masks: Arc::new(Masks::compile(rules).expect("they compile")), salt: Salt::new(&[3; 32]) }
}

pub(super) fn catalog() -> Catalog {
    let mut reader = CatalogReader::default();
    for line in ROWS.lines() {
        let values: Vec<Option<&[u8]>> = line.splitn(7, '|').map(|value| Some(value.as_bytes())).collect();
        reader.row(&data_row(&values)).expect("a row of the lookup");
    }
    reader.finish(&masker(&column_rules()).masks)
}

pub(super) fn message(tag: u8, body: &[u8]) -> Bytes {
    let mut message = BytesMut::new();
    message.put_u8(tag);
    message.put_i32(i32::try_from(body.len() + 4).expect("small"));
    message.put_slice(body);
    message.freeze()
}

pub(super) fn data_row(values: &[Option<&[u8]>]) -> Bytes {
    let mut body = BytesMut::new();
    body.put_i16(i16::try_from(values.len()).expect("few"));
    for value in values {
        match value {
            None => body.put_i32(-1),
            Some(value) => {
                body.put_i32(i32::try_from(value.len()).expect("small"));
                body.put_slice(value);
            }
        }
    }
    message(b'D', &body)
}

/// The values of a DataRow, or nothing when it is not one.
pub(super) fn values(message: &[u8]) -> Option<Vec<Option<Vec<u8>>>> {
    let mut cursor = body(message, b'D').ok()?;
    let count = cursor.count().ok()?;
    let values =
        (0..count).map(|_| cursor.value().map(|value| value.map(<[u8]>::to_vec))).collect::<Result<_, _>>().ok()?;
    cursor.is_done().then_some(values)
}

pub(super) fn field(name: &str, table: u32, attnum: i16, type_oid: u32) -> Field<'_> {
    Field { name: name.as_bytes(), table, attnum, type_oid, binary: false }
}

pub(super) fn references(tables: &[&str], columns: &[&str]) -> References {
    References {
        columns: columns.iter().map(|name| (*name).to_owned()).collect(),
        tables: tables.iter().map(|name| (None, (*name).to_owned())).collect(),
        ..References::default()
    }
}
