//! One statement that asks the catalog for what users have made, and its rows.
//!
//! # Security
//! As in [`super::super::mask::catalog`]: everything is named with its schema, operators included, and there is neither
//! a backslash nor an escape in it, so that no setting of the session gives it another meaning. It reads catalogs only,
//! takes no lock that anything but a change of the catalogs' own shape waits for, and calls no function of a user's.

use std::collections::HashMap;

use super::{Behind, Code, Function, Operator, Relation, Via};
use crate::{
    operation::{Effect, Effects},
    protocol::{
        postgres::classify::{self, Table},
        reader::Reader,
    },
};

/// The statement; it answers eleven columns of text. For PostgreSQL 12 to 18.
pub fn lookup_sql() -> String {
    let dangerous: Vec<_> = classify::dangerous_names().collect();
    let starts: Vec<_> = classify::dangerous_starts().map(|start| format!("{start}%")).collect();
    LOOKUP
        .replace("$DANGEROUS", &dangerous.join(","))
        .replace("$STARTS", &starts.join(","))
        .replace("$LONGEST", &LONGEST.to_string())
        .replace("$CALLS", CALLS)
        .replace("::T", "::pg_catalog.text")
        .replace("::O", "::pg_catalog.oid")
        .replace("::C", "::pg_catalog.\"char\"")
        .replace("$8", "NULL::pg_catalog.text,$7")
        .replace("$7", "NULL::pg_catalog.text,$6")
        .replace("$6", "NULL::pg_catalog.text,$5")
        .replace("$5", "NULL::pg_catalog.text,NULL::pg_catalog.text,NULL::pg_catalog.text,NULL::pg_catalog.text,NULL::pg_catalog.text")
        .replace(" == ", " OPERATOR(pg_catalog.=) ")
        .replace(" <> ", " OPERATOR(pg_catalog.<>) ")
        .replace(" >> ", " OPERATOR(pg_catalog.>) ")
        .replace(" <= ", " OPERATOR(pg_catalog.<=) ")
        .replace(" ~~ ", " OPERATOR(pg_catalog.~~) ")
}

/// Fixed OIDs: 1247 `pg_type`, 1255 `pg_proc`, 1259 `pg_class`, 2604 `pg_attrdef`, 2606 `pg_constraint`, 2617 `pg_operator`,
/// 2618 `pg_rewrite`, 3079 `pg_extension`, 3256 `pg_policy`.
///
/// Bits of `tgtype`: insert 4, delete 8, update 16, truncate 32. `ev_type`: select 1, update 2, insert 3, delete 4.
///
/// `fn`: functions that matter, which are users' and PostgreSQL's own dangerous ones. `op`: users' operators.
/// `trees`: expressions and rules as PostgreSQL keeps them, which are searched for what they call and summed up here,
/// since they are many times longer than that. A sequence's next value, as a default, writes no more than the row does.
const LOOKUP: &str = r#"/* holdpoint: what stands behind names */ WITH
fn(o, p, ns, own) AS (SELECT p.oid, p.proname, n.nspname, p.oid >> 16383::O FROM pg_catalog.pg_proc p
  JOIN pg_catalog.pg_namespace n ON n.oid == p.pronamespace
  WHERE p.oid >> 16383::O OR p.proname == ANY ('{$DANGEROUS}'::pg_catalog.name[]) OR p.proname::T ~~ ANY ('{$STARTS}'::pg_catalog.text[])),
op(o, f, ns, name) AS (SELECT q.oid, q.oprcode::O, n.nspname, q.oprname FROM pg_catalog.pg_operator q
  JOIN pg_catalog.pg_namespace n ON n.oid == q.oprnamespace WHERE q.oid >> 16383::O AND q.oprcode::O <> 0::O),
uses(c, o, f) AS (SELECT d.classid, d.objid, d.refobjid FROM pg_catalog.pg_depend d
  WHERE d.refclassid == 1255::O AND d.refobjid >> 16383::O
  UNION ALL SELECT d.classid, d.objid, op.f FROM pg_catalog.pg_depend d JOIN op ON op.o == d.refobjid WHERE d.refclassid == 2617::O),
trees(r, w, x) AS (
  SELECT w.ev_class, CASE w.ev_type WHEN '1'::C THEN 'a'::T WHEN '4'::C THEN 'd'::T ELSE 'w'::T END,
    pg_catalog.concat_ws('|'::T, w.ev_type, w.ev_enabled, w.is_instead, w.ev_qual, w.ev_action) FROM pg_catalog.pg_rewrite w WHERE w.oid >> 16383::O
  UNION ALL SELECT a.adrelid, CASE b.attgenerated WHEN 'v'::C THEN 'a'::T ELSE 'w'::T END, pg_catalog.concat_ws('|'::T, a.adnum, b.attgenerated, a.adbin)
    FROM pg_catalog.pg_attrdef a JOIN pg_catalog.pg_attribute b ON b.attrelid == a.adrelid AND b.attnum == a.adnum
  UNION ALL SELECT k.conrelid, 'w'::T, pg_catalog.concat_ws('|'::T, k.conname, k.conbin) FROM pg_catalog.pg_constraint k WHERE k.conrelid <> 0::O AND k.contype == 'c'::C
  UNION ALL SELECT i.indrelid, 'w'::T, pg_catalog.concat_ws('|'::T, i.indexprs, i.indpred) FROM pg_catalog.pg_index i WHERE i.indexprs IS NOT NULL OR i.indpred IS NOT NULL
  UNION ALL SELECT p.partrelid, 'a'::T, p.partexprs::T FROM pg_catalog.pg_partitioned_table p WHERE p.partexprs IS NOT NULL
  UNION ALL SELECT y.polrelid, 'a'::T, pg_catalog.concat_ws('|'::T, y.polname, y.polcmd, y.polpermissive, y.polroles, y.polqual, y.polwithcheck) FROM pg_catalog.pg_policy y
  UNION ALL SELECT t.tgrelid, 't'::T, pg_catalog.concat_ws('|'::T, t.tgname, t.tgfoid, t.tgtype, t.tgenabled, t.tgattr, pg_catalog.encode(t.tgargs, 'hex'::T), t.tgqual)
    FROM pg_catalog.pg_trigger t WHERE NOT t.tgisinternal
  UNION ALL SELECT c.oid, 't'::T, pg_catalog.concat_ws('|'::T, c.relrowsecurity, c.relforcerowsecurity) FROM pg_catalog.pg_class c WHERE c.relrowsecurity OR c.relforcerowsecurity),
own(t, ns, name, base, elem, rel, kind, def) AS (SELECT t.oid, n.nspname, t.typname, t.typbasetype, t.typelem, t.typrelid, t.typtype,
    pg_catalog.concat_ws('|'::T, t.typbasetype, t.typtypmod, t.typnotnull, t.typdefaultbin, t.typdefault, t.typinput, t.typoutput, t.typreceive, t.typsend, t.typmodin, t.typmodout)
  FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid == t.typnamespace
  WHERE t.oid >> 16383::O AND t.typtype <> 'e'::C AND NOT EXISTS
    (SELECT FROM pg_catalog.pg_depend e WHERE e.classid == 1247::O AND e.objid == t.oid AND e.deptype == 'e'::C)),
checks(t, f, x) AS (SELECT k.contypid, NULL::O, pg_catalog.concat_ws('|'::T, k.conname, k.conbin) FROM pg_catalog.pg_constraint k WHERE k.contypid <> 0::O
  UNION ALL SELECT own.t, NULL::O, t.typdefaultbin::T FROM own JOIN pg_catalog.pg_type t ON t.oid == own.t WHERE t.typdefaultbin IS NOT NULL
  UNION ALL SELECT own.t, s.castfunc, pg_catalog.concat_ws('|'::T, s.castsource, s.casttarget, s.castfunc, s.castcontext, s.castmethod)
    FROM own JOIN pg_catalog.pg_cast s ON s.castsource == own.t OR s.casttarget == own.t
  UNION ALL SELECT own.t, v.f, NULL::T FROM own JOIN pg_catalog.pg_type t ON t.oid == own.t AND t.typtype <> 'd'::C
    CROSS JOIN LATERAL (VALUES (t.typinput::O), (t.typoutput::O), (t.typreceive::O), (t.typsend::O), (t.typmodin::O)) v(f) WHERE v.f >> 16383::O),
behind(r, f, w) AS (SELECT t.tgrelid, t.tgfoid, 'tw'::T FROM pg_catalog.pg_trigger t
    WHERE NOT t.tgisinternal AND (t.tgtype OPERATOR(pg_catalog.&) 20::pg_catalog.int2) <> 0::pg_catalog.int2
  UNION SELECT t.tgrelid, t.tgfoid, 'td'::T FROM pg_catalog.pg_trigger t
    WHERE NOT t.tgisinternal AND (t.tgtype OPERATOR(pg_catalog.&) 40::pg_catalog.int2) <> 0::pg_catalog.int2
  UNION SELECT k.conrelid, u.f, 'w'::T FROM pg_catalog.pg_constraint k JOIN uses u ON u.c == 2606::O AND u.o == k.oid WHERE k.conrelid <> 0::O
  UNION SELECT a.adrelid, u.f, 'w'::T FROM pg_catalog.pg_attrdef a JOIN uses u ON u.c == 2604::O AND u.o == a.oid
  UNION SELECT i.indrelid, u.f, 'w'::T FROM pg_catalog.pg_index i JOIN uses u ON u.c == 1259::O AND u.o == i.indexrelid
  UNION SELECT y.polrelid, u.f, 'a'::T FROM pg_catalog.pg_policy y JOIN uses u ON u.c == 3256::O AND u.o == y.oid
  UNION SELECT e.r, fn.o, e.w FROM trees e CROSS JOIN LATERAL pg_catalog.regexp_matches(e.x, '$CALLS'::T, 'g'::T) m(x)
    JOIN fn ON fn.o == (m.x)[1]::O WHERE e.w <> 't'::T AND fn.p <> 'nextval'::pg_catalog.name)
SELECT 'f'::T, p.oid::T, n.nspname::T, p.proname::T, l.lanname::T, p.prosecdef::T, x.extname::T,
  CASE WHEN l.lanname == ANY ('{sql,plpgsql}'::pg_catalog.name[]) AND pg_catalog.length(p.prosrc) <= $LONGEST::pg_catalog.int4 THEN p.prosrc END,
  pg_catalog.pg_get_expr(p.proargdefaults, 0::O), pg_catalog.array_to_string(p.proconfig, ','::T), p.prokind::T
  FROM pg_catalog.pg_proc p JOIN fn ON fn.o == p.oid JOIN pg_catalog.pg_namespace n ON n.oid == p.pronamespace
  JOIN pg_catalog.pg_language l ON l.oid == p.prolang
  LEFT JOIN pg_catalog.pg_depend e ON e.classid == 1255::O AND e.objid == p.oid AND e.deptype == 'e'::C AND e.refclassid == 3079::O
  LEFT JOIN pg_catalog.pg_extension x ON x.oid == e.refobjid
UNION ALL SELECT 'o'::T, op.o::T, op.ns::T, op.name::T, op.f::T, e.objid::T, $5
  FROM op LEFT JOIN pg_catalog.pg_depend e ON e.classid == 2617::O AND e.objid == op.o AND e.deptype == 'e'::C AND e.refclassid == 3079::O
UNION ALL SELECT 'g'::T, a.aggfnoid::O::T, v.f::T, $8
  FROM pg_catalog.pg_aggregate a CROSS JOIN LATERAL (VALUES (a.aggtransfn::O), (a.aggfinalfn::O), (a.aggcombinefn::O), (a.aggserialfn::O),
  (a.aggdeserialfn::O), (a.aggmtransfn::O), (a.aggminvtransfn::O), (a.aggmfinalfn::O)) v(f) JOIN fn ON fn.o == v.f WHERE a.aggfnoid::O >> 16383::O
UNION ALL SELECT 'h'::T, n.nspname::T, c.relname::T, b.f::T, b.w, NULL::T, $5
  FROM behind b JOIN pg_catalog.pg_class c ON c.oid == b.r JOIN pg_catalog.pg_namespace n ON n.oid == c.relnamespace JOIN fn ON fn.o == b.f
UNION ALL SELECT 'c'::T, n.nspname::T, c.relname::T, (m.x)[1], w.ev_type::T, NULL::T, $5
  FROM pg_catalog.pg_rewrite w JOIN pg_catalog.pg_class c ON c.oid == w.ev_class JOIN pg_catalog.pg_namespace n ON n.oid == c.relnamespace
  CROSS JOIN LATERAL pg_catalog.regexp_matches(w.ev_action::T, ':commandType ([2-9])'::T, 'g'::T) m(x) WHERE w.oid >> 16383::O
UNION ALL SELECT DISTINCT 't'::T, n.nspname::T, c.relname::T, rn.nspname::T, r.relname::T,
  CASE c.relkind WHEN 'm'::C THEN 'm'::T ELSE 'v'::T END, $5
  FROM pg_catalog.pg_rewrite w JOIN pg_catalog.pg_depend d ON d.classid == 2618::O AND d.objid == w.oid AND d.refclassid == 1259::O AND d.refobjid <> w.ev_class
  JOIN pg_catalog.pg_class c ON c.oid == w.ev_class JOIN pg_catalog.pg_namespace n ON n.oid == c.relnamespace
  JOIN pg_catalog.pg_class r ON r.oid == d.refobjid JOIN pg_catalog.pg_namespace rn ON rn.oid == r.relnamespace WHERE w.oid >> 16383::O
UNION ALL SELECT 't'::T, n.nspname::T, c.relname::T, rn.nspname::T, r.relname::T, 'i'::T, $5
  FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid == i.inhparent JOIN pg_catalog.pg_namespace n ON n.oid == c.relnamespace
  JOIN pg_catalog.pg_class r ON r.oid == i.inhrelid AND r.relkind == ANY ('{r,p,f}'::pg_catalog."char"[]) JOIN pg_catalog.pg_namespace rn ON rn.oid == r.relnamespace
UNION ALL SELECT 't'::T, n.nspname::T, c.relname::T, rn.nspname::T, r.relname::T, k.confdeltype::T, k.confupdtype::T,
  NULL::T, NULL::T, NULL::T, NULL::T
  FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid == k.confrelid JOIN pg_catalog.pg_namespace n ON n.oid == c.relnamespace
  JOIN pg_catalog.pg_class r ON r.oid == k.conrelid JOIN pg_catalog.pg_namespace rn ON rn.oid == r.relnamespace WHERE k.contype == 'f'::C
UNION ALL SELECT 'd'::T, n.nspname::T, c.relname::T, pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(s.x, 'UTF8'::pg_catalog.name)), 'hex'::T), $7
  FROM (SELECT r, pg_catalog.string_agg(w OPERATOR(pg_catalog.||) x, '|'::T ORDER BY x) FROM trees GROUP BY r) s(r, x)
  JOIN pg_catalog.pg_class c ON c.oid == s.r JOIN pg_catalog.pg_namespace n ON n.oid == c.relnamespace WHERE c.oid >> 16383::O
UNION ALL SELECT 'u'::T, n.nspname::T, c.relname::T, u.t::T, $7
  FROM (SELECT a.attrelid, a.atttypid FROM pg_catalog.pg_attribute a WHERE a.attnum >> 0::pg_catalog.int2 AND NOT a.attisdropped
    UNION SELECT w.ev_class, d.refobjid FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite w ON d.classid == 2618::O AND d.objid == w.oid WHERE d.refclassid == 1247::O) u(r, t)
  JOIN own ON own.t == u.t JOIN pg_catalog.pg_class c ON c.oid == u.r AND c.relkind <> 'c'::C JOIN pg_catalog.pg_namespace n ON n.oid == c.relnamespace
UNION ALL SELECT 'y'::T, own.t::T, own.ns::T, own.name::T, pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.concat_ws('|'::T, own.def,
    (SELECT pg_catalog.string_agg(checks.x, '|'::T ORDER BY checks.x) FROM checks WHERE checks.t == own.t)), 'UTF8'::pg_catalog.name)), 'hex'::T), $6
  FROM own WHERE own.kind <> 'c'::C AND own.elem == 0::O OR EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid == own.rel AND c.relkind == 'c'::C)
    OR EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid == own.rel AND a.atttypid >> 16383::O)
    OR EXISTS (SELECT FROM checks WHERE checks.t == own.t)
UNION ALL SELECT 'z'::T, own.t::T, o.t::T, $8
  FROM own CROSS JOIN LATERAL (SELECT own.base UNION SELECT own.elem
    UNION SELECT a.atttypid FROM pg_catalog.pg_attribute a WHERE a.attrelid == own.rel AND a.attnum >> 0::pg_catalog.int2 AND NOT a.attisdropped
    UNION SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid == own.t) o(t) WHERE o.t >> 16383::O
UNION ALL SELECT DISTINCT 'k'::T, k.t::T, k.f::T, $8
  FROM (SELECT checks.t, checks.f FROM checks UNION SELECT checks.t, (m.x)[1]::O
    FROM checks CROSS JOIN LATERAL pg_catalog.regexp_matches(checks.x, '$CALLS'::T, 'g'::T) m(x)) k(t, f) JOIN fn ON fn.o == k.f
UNION ALL SELECT DISTINCT 'v'::T, p.oid::T, own.t::T, $8
  FROM pg_catalog.pg_proc p CROSS JOIN LATERAL pg_catalog.unnest(COALESCE(p.proallargtypes, p.proargtypes::pg_catalog.oid[]) OPERATOR(pg_catalog.||) p.prorettype) g(t)
  JOIN own ON own.t == g.t WHERE p.oid >> 16383::O
UNION ALL SELECT 'e'::T, e.evtfoid::T, e.evtname::T, e.evtevent::T, $7 FROM pg_catalog.pg_event_trigger e WHERE e.evtenabled <> 'D'::C
UNION ALL SELECT 'x'::T, n.nspname::T, c.relname::T, $8
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid == c.relnamespace WHERE c.relkind == 'f'::C"#;

/// What a tree calls.
const CALLS: &str = ":(?:funcid|opfuncid|aggfnoid|winfnoid) ([0-9]+) ";

/// A body longer than this is not read. Characters.
const LONGEST: usize = 16 * 1024;

/// Takes the rows of [`lookup_sql`] and makes the [`Code`].
#[derive(Debug, Default)]
pub struct CodeReader {
    code: Code,
    relations: HashMap<(String, String), Relation>,
}

impl CodeReader {
    /// Takes one DataRow message; `None` when it is not a row of [`lookup_sql`], and what was read must not be used.
    pub fn row(&mut self, message: &[u8]) -> Option<()> {
        let mut reader = Reader::new(message.get(5..)?);
        let mut values: [Option<String>; 11] = Default::default();
        if usize::try_from(reader.i16().ok()?) != Ok(values.len()) {
            return None;
        }
        for value in &mut values {
            if let Ok(length) = usize::try_from(reader.i32().ok()?) {
                *value = Some(str::from_utf8(reader.take(length).ok()?).ok()?.to_owned());
            }
        }
        reader.finish().ok()?;
        self.values(&values)
    }

    fn values(&mut self, values: &[Option<String>; 11]) -> Option<()> {
        let text = |at: usize| values[at].as_deref();
        let number = |at: usize| text(at)?.parse::<u32>().ok();
        match text(0)? {
            "f" => self.function(number(1)?, values)?,
            "o" => {
                let function = number(4)?;
                let operator = Operator {
                    schema: text(2)?.to_owned(),
                    function,
                    is_builtin: function < FIRST_USER_OID,
                    is_extensions: values[5].is_some(),
                };
                self.code.operators.entry(text(3)?.to_owned()).or_default().push(operator);
            }
            "g" => {
                let part = number(2)?;
                self.code.functions.entry(number(1)?).or_default().parts.get_or_insert_default().push(part);
            }
            "h" => {
                let function = number(3)?;
                match text(4)? {
                    "tw" => self.behind(text(1)?, text(2)?, "w").triggers.push(function),
                    "td" => self.behind(text(1)?, text(2)?, "d").triggers.push(function),
                    when => self.behind(text(1)?, text(2)?, when).functions.push(function),
                }
            }
            "c" => {
                let effects = command(text(3)?);
                let when = match text(4)? {
                    "1" => "a",
                    "4" => "d",
                    _ => "w",
                };
                let behind = self.behind(text(1)?, text(2)?, when);
                behind.effects = behind.effects.union(effects);
            }
            "t" => self.related(text(1)?, text(2)?, (text(3)?, text(4)?), (text(5)?, text(6).unwrap_or_default())),
            "d" => text(3)?.clone_into(&mut self.relation(text(1)?, text(2)?).definition),
            "u" => self.relation(text(1)?, text(2)?).types.push(number(3)?),
            "y" => {
                let (oid, name) = (number(1)?, text(3)?);
                let own = self.code.types.entry(oid).or_default();
                own.definition = format!("{}.{name} {}", text(2)?, text(4)?);
                text(2)?.clone_into(&mut own.schema);
                self.code.types_by_name.entry(name.to_owned()).or_default().push(oid);
            }
            "z" => self.code.types.entry(number(1)?).or_default().parts.push(number(2)?),
            "k" => self.code.types.entry(number(1)?).or_default().functions.push(number(2)?),
            "v" => self.code.functions.entry(number(1)?).or_default().types.push(number(2)?),
            "e" => self.code.on_definition.push(number(1)?),
            "x" => {
                let behind = self.behind(text(1)?, text(2)?, "a");
                behind.effects = behind.effects.with(Effect::Transfer);
            }
            _ => return None,
        }
        Some(())
    }

    fn function(&mut self, oid: u32, values: &[Option<String>; 11]) -> Option<()> {
        let function = self.code.functions.entry(oid).or_default();
        let (parts, types) = (function.parts.take(), std::mem::take(&mut function.types));
        let is_aggregate = values[10].as_deref() == Some("a");
        *function = Function {
            schema: values[2].clone()?,
            name: values[3].clone()?,
            language: values[4].clone()?,
            is_definer: values[5].as_deref()? == "true",
            extension: values[6].clone(),
            body: values[7].clone(),
            defaults: values[8].clone(),
            settings: values[9].clone(),
            parts: is_aggregate.then(|| parts.unwrap_or_default()),
            types,
            ..Function::default()
        };
        if oid >= FIRST_USER_OID {
            let name = function.name.clone();
            self.code.functions_by_name.entry(name).or_default().push(oid);
        }
        Some(())
    }

    /// Another relation that is used with this one: below a view, a child of it, or one that refers to it.
    fn related(&mut self, schema: &str, name: &str, other: (&str, &str), how: (&str, &str)) {
        let other = Table { schema: other.0.to_owned(), name: other.1.to_owned() };
        let (on_delete, on_update) = how;
        let via = match on_delete {
            "v" => Some(Via::View),
            "m" => Some(Via::Copy),
            "i" => Some(Via::Child),
            _ => None,
        };
        if let Some(via) = via {
            self.behind(schema, name, "a").relations.push((other, via));
            return;
        }
        self.relation(schema, name).referring.push(other.clone());
        for (when, effects) in
            [("d", key_action(on_delete, Effect::Delete)), ("w", key_action(on_update, Effect::Write))]
        {
            if !effects.is_empty() {
                let behind = self.behind(schema, name, when);
                behind.effects = behind.effects.union(effects);
                behind.relations.push((other.clone(), Via::Key(effects)));
            }
        }
    }

    /// What is set off always (`a`), by writing (`w`) or by deleting (`d`).
    fn behind(&mut self, schema: &str, name: &str, when: &str) -> &mut Behind {
        let relation = self.relation(schema, name);
        match when {
            "w" => &mut relation.on_write,
            "d" => &mut relation.on_delete,
            _ => &mut relation.always,
        }
    }

    fn relation(&mut self, schema: &str, name: &str) -> &mut Relation {
        let relation = self.relations.entry((schema.to_owned(), name.to_owned())).or_default();
        schema.clone_into(&mut relation.schema);
        relation
    }

    /// What was read.
    pub fn finish(mut self) -> Code {
        for ((_, name), relation) in self.relations {
            self.code.relations.entry(name).or_default().push(relation);
        }
        // Parts of something that was dropped meanwhile.
        self.code.functions.retain(|_, function| !function.name.is_empty());
        self.code
    }
}

/// What a rule's statement of this kind does (`CmdType`). A kind that is not known may change anything.
fn command(kind: &str) -> Effects {
    match kind {
        "2" | "3" => Effects::of(Effect::Write),
        "4" => Effects::of(Effect::Delete),
        _ => Effects::of(Effect::Write).with(Effect::Delete).with(Effect::Transfer),
    }
}

/// What a foreign key does to the rows that refer: cascades, or sets their columns.
fn key_action(action: &str, cascade: Effect) -> Effects {
    match action {
        "c" => Effects::of(cascade),
        "n" | "d" => Effects::of(Effect::Write),
        _ => Effects::NONE,
    }
}

/// OIDs below this are made by `initdb` (`FirstNormalObjectId`).
const FIRST_USER_OID: u32 = 16384;
