//! What to do with each column of a result, decided once per RowDescription or COPY.
//!
//! # Security
//! Lineage decides first, then the result's name, then the type (a masked table's row type). A computed column has no
//! lineage: it is masked when its statement mentions a masked column anywhere, or takes whole rows of a table that may
//! have one. Where several apply, the method that reveals least wins.

use std::collections::BTreeSet;

use super::{Catalog, Cursor, Unmaskable, body, catalog::Origin, catalog::holds_samples, types};
use crate::mask::{Masks, Method};

/// One column of a RowDescription (protocol: message formats).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field<'a> {
    /// The result's name, in the client's encoding.
    pub name: &'a [u8],
    /// The table's OID; 0 when the column is computed.
    pub table: u32,
    /// The column's number in the table.
    pub attnum: i16,
    /// The type's OID (of a domain: its base type).
    pub type_oid: u32,
    /// Whether values come in binary form. A description of a statement always says text; see [`Plan::set_formats`].
    pub binary: bool,
}

impl<'a> Field<'a> {
    /// Reads one whole RowDescription message.
    ///
    /// # Errors
    /// When the bytes are not one.
    pub fn read_all(message: &'a [u8]) -> Result<Vec<Self>, Unmaskable> {
        let mut cursor = body(message, b'T')?;
        let count = cursor.count()?;
        let fields = (0..count).map(|_| Self::read(&mut cursor)).collect::<Result<_, _>>()?;
        cursor.done()?;
        Ok(fields)
    }

    fn read(cursor: &mut Cursor<'a>) -> Result<Self, Unmaskable> {
        let name = cursor.string()?;
        let (table, attnum, type_oid) = (cursor.u32()?, cursor.i16()?, cursor.u32()?);
        let _length_and_modifier = cursor.take(6)?;
        let binary = is_binary(cursor.i16()?)?;
        Ok(Self { name, table, attnum, type_oid, binary })
    }
}

fn is_binary(format: i16) -> Result<bool, Unmaskable> {
    match format {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Unmaskable::Malformed("a format code is neither 0 nor 1")),
    }
}

/// What a statement refers to, as its parse tree shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    /// Every column name anywhere in it, unqualified, as PostgreSQL folds it.
    pub columns: BTreeSet<String>,
    /// Every table anywhere in it, with its schema where stated. Names of its own CTEs are left out.
    pub tables: BTreeSet<(Option<String>, String)>,
    /// Whether a whole row may be used as a value (`row_to_json(t)`, `SELECT t FROM t`, `t::text`).
    pub whole_row: bool,
    /// Whether it has UNION, INTERSECT or EXCEPT.
    pub set_operation: bool,
    /// Where it stores values and may hand them out again (`UPDATE … RETURNING`): the columns that these come from. A
    /// stored column then says nothing of where its value comes from.
    pub stored: Option<BTreeSet<String>>,
    /// Whether what it reads cannot be seen: an unknown prepared statement or cursor, dynamic SQL, no parse tree.
    pub opaque: bool,
}

impl References {
    /// Of a statement that could not be read.
    pub fn opaque() -> Self {
        Self { opaque: true, ..Self::default() }
    }

    fn tables(&self) -> impl Iterator<Item = (Option<&str>, &str)> {
        self.tables.iter().map(|(schema, name)| (schema.as_deref(), name.as_str()))
    }

    /// Whether a value computed by the statement may come from a masked column.
    pub fn may_show_masked(&self, masks: &Masks, catalog: Option<&Catalog>) -> bool {
        if !masks.has_columns() {
            return false;
        }
        let Some(catalog) = catalog else { return self.opaque || !self.tables.is_empty() };
        let is_masked = |column: &String| {
            masks.mentions(column) || holds_samples(column) || catalog.is_masked_in(self.tables(), column)
        };
        let is_unknown = |(_, name): (Option<&str>, &str)| !catalog.knows(name);
        self.opaque
            || self.columns.iter().any(is_masked)
            || self.tables().any(is_unknown)
            || (self.whole_row && self.reads_masked_table(Some(catalog)))
    }

    /// Whether a stored column may hold what the statement itself put there from a masked one.
    fn may_store_masked(&self, masks: &Masks, catalog: Option<&Catalog>) -> bool {
        self.stored.as_ref().is_some_and(|stored| {
            Self { columns: stored.clone(), stored: None, ..self.clone() }.may_show_masked(masks, catalog)
        })
    }

    fn reads_masked_table(&self, catalog: Option<&Catalog>) -> bool {
        self.tables().any(|(schema, name)| catalog.is_none_or(|catalog| catalog.may_be_masked(schema, name)))
    }
}

/// What happens to the values of one column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// Nothing.
    Pass,
    /// Detectors look into it.
    Detect,
    /// Every value is replaced.
    Mask(Method),
}

/// One column's treatment, with what is needed to write a valid replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// What happens.
    pub treatment: Treatment,
    /// The type's OID; 0 when it is not known.
    pub type_oid: u32,
    /// Binary form.
    pub binary: bool,
}

/// What to do with every row of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    columns: Option<Vec<Column>>,
    unknown_relation: bool,
}

impl Plan {
    /// For a result that nobody described: every value becomes NULL.
    pub const fn blind() -> Self {
        Self { columns: None, unknown_relation: false }
    }

    /// For rows of `fields`. Without a catalog every stored column may be masked, as far as rules name columns at all.
    pub fn new(fields: &[Field<'_>], references: &References, masks: &Masks, catalog: Option<&Catalog>) -> Self {
        let computed = masks.has_columns() && references.may_show_masked(masks, catalog);
        let rewritten = (references.set_operation && computed) || references.may_store_masked(masks, catalog);
        let mut unknown_relation = false;
        let columns = fields.iter().map(|field| {
            let by_lineage = match lineage(field, masks, catalog) {
                Some(Origin::Masked(method)) => Some(method),
                Some(Origin::Open) => rewritten.then_some(Method::Redact),
                Some(Origin::Unknown) => {
                    unknown_relation = true;
                    Some(Method::Redact)
                }
                None => computed.then_some(Method::Redact),
            };
            // A name in another encoding is not the rule's, whatever it says.
            let by_name = match str::from_utf8(field.name) {
                Ok(name) => masks.for_name(name),
                Err(_) => masks.has_columns().then_some(Method::Redact),
            };
            let is_row = catalog.is_some_and(|catalog| catalog.is_masked_rowtype(field.type_oid));
            let method = by_lineage.max(by_name).max(is_row.then_some(Method::Redact));
            Column {
                treatment: treatment(method, field.type_oid, masks),
                type_oid: field.type_oid,
                binary: field.binary,
            }
        });
        let columns = Some(columns.collect());
        Self { columns, unknown_relation }
    }

    /// Whether nothing at all is to do: rows may be forwarded as they are, unread.
    pub fn is_pass(&self) -> bool {
        self.columns.as_ref().is_some_and(|all| all.iter().all(|column| column.treatment == Treatment::Pass))
    }

    /// Whether a column came from a relation that the catalog does not know: a reason to read it again.
    pub fn has_unknown_relation(&self) -> bool {
        self.unknown_relation
    }

    /// The columns; `None` when nobody described them.
    pub fn columns(&self) -> Option<&[Column]> {
        self.columns.as_deref()
    }

    /// Takes the result formats of a Bind message: none is all text, one is for all, else one per column.
    ///
    /// # Errors
    /// When the counts do not fit or a code is neither 0 nor 1.
    pub fn set_formats(&mut self, formats: &[i16]) -> Result<(), Unmaskable> {
        let Some(columns) = &mut self.columns else { return Ok(()) };
        if formats.len() > 1 && formats.len() != columns.len() {
            return Err(Unmaskable::Columns { got: formats.len(), expected: columns.len() });
        }
        for (place, column) in columns.iter_mut().enumerate() {
            column.binary = match formats {
                [] => false,
                [all] => is_binary(*all)?,
                each => is_binary(each[place])?,
            };
        }
        Ok(())
    }
}

/// `None`: computed, or no rule names columns.
fn lineage(field: &Field<'_>, masks: &Masks, catalog: Option<&Catalog>) -> Option<Origin> {
    if field.table == 0 || !masks.has_columns() {
        return None;
    }
    // System columns (ctid, xmin, tableoid) hold nothing of a row's content.
    let unknown = if field.attnum < 0 { Origin::Open } else { Origin::Unknown };
    Some(match catalog.map_or(Origin::Unknown, |catalog| catalog.origin(field.table, field.attnum)) {
        Origin::Unknown => unknown,
        known => known,
    })
}

fn treatment(method: Option<Method>, type_oid: u32, masks: &Masks) -> Treatment {
    match method {
        Some(method) => Treatment::Mask(method),
        None if masks.detectors().is_some() && types::scan(type_oid) != types::Scan::Never => Treatment::Detect,
        None => Treatment::Pass,
    }
}

/// What a `COPY … TO STDOUT` copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopySource<'a> {
    /// `COPY table [(columns)] TO`: the columns as written, empty when there is no list.
    Table {
        /// The schema, where stated.
        schema: Option<&'a str>,
        /// The table.
        name: &'a str,
        /// The columns.
        columns: &'a [String],
    },
    /// `COPY (query) TO`: nothing describes its columns, so all are masked when it reads a table with a masked one.
    Query(&'a References),
    /// A COPY whose statement is not known.
    Unknown,
}

/// What to do with every column of a COPY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyPlan {
    /// One for each column that CopyOutResponse announces.
    pub columns: Vec<Column>,
}

impl CopyPlan {
    /// For a COPY of `count` columns (CopyOutResponse), in binary form or not.
    ///
    /// # Errors
    /// When the catalog says another number of columns: the table was altered since.
    pub fn new(
        source: CopySource<'_>,
        count: usize,
        binary: bool,
        masks: &Masks,
        catalog: Option<&Catalog>,
    ) -> Result<Self, Unmaskable> {
        let treated = match source {
            _ if !masks.has_columns() => vec![(None, 0); count],
            CopySource::Table { schema, name, columns } => copied_table(schema, name, columns, count, masks, catalog),
            CopySource::Query(references) => {
                let masked = references.may_show_masked(masks, catalog) || references.reads_masked_table(catalog);
                vec![(masked.then_some(Method::Null), 0); count]
            }
            CopySource::Unknown => vec![(Some(Method::Null), 0); count],
        };
        if treated.len() != count {
            return Err(Unmaskable::Columns { got: count, expected: treated.len() });
        }
        let column = |(method, type_oid)| Column { treatment: treatment(method, type_oid, masks), type_oid, binary };
        Ok(Self { columns: treated.into_iter().map(column).collect() })
    }

    /// Whether nothing at all is to do.
    pub fn is_pass(&self) -> bool {
        self.columns.iter().all(|column| column.treatment == Treatment::Pass)
    }
}

/// Method and type of each column that is sent.
fn copied_table(
    schema: Option<&str>,
    name: &str,
    columns: &[String],
    count: usize,
    masks: &Masks,
    catalog: Option<&Catalog>,
) -> Vec<(Option<Method>, u32)> {
    let withheld = (Some(Method::Null), 0);
    let Some(catalog) = catalog else { return vec![withheld; count] };
    if !catalog.may_be_masked(schema, name) {
        return vec![(None, 0); count];
    }
    let Some(copied) = catalog.copied(schema, name) else { return vec![withheld; count] };
    if columns.is_empty() {
        return copied.iter().map(|column| (column.method, column.type_oid)).collect();
    }
    let by_name = |wanted: &String| {
        let column = copied.iter().find(|column| column.name == wanted);
        // Not in the catalog: generated, which is computed from others, or added since.
        column.map_or(withheld, |column| (column.method.max(masks.for_name(wanted)), column.type_oid))
    };
    columns.iter().map(by_name).collect()
}

#[cfg(test)]
mod tests;
