//! Which values in a statement are data, and nothing else: no name of something, and no code.

use super::{Called, Inside};

impl Inside {
    /// Whether every value in the text is data: none goes to a function or a type that could take it for a name or code.
    pub(in super::super) fn only_data(&self) -> bool {
        let is_own = |called: &Called| matches!(called.schema.as_deref(), None | Some("pg_catalog"));
        self.opaque.is_empty()
            && self.functions.iter().all(|called| is_own(called) && PLAIN_FUNCTIONS.contains(&called.name.as_str()))
            && self.types.iter().all(|named| is_own(named) && is_plain_type(&named.name))
    }
}

/// Functions to which values are data, as people and the grammar write them.
#[rustfmt::skip]
const PLAIN_FUNCTIONS: [&str; 52] = [
    "abs", "array_agg", "array_length", "array_position", "avg", "bool_and", "bool_or", "btrim", "cardinality",
    "ceil", "char_length", "clock_timestamp", "concat", "concat_ws", "count", "current_timestamp", "date_part",
    "date_trunc", "extract", "floor", "generate_series", "greatest", "initcap", "least", "left", "length", "lower",
    "lpad", "ltrim", "max", "md5", "min", "mod", "now", "overlay", "position", "power", "replace", "right", "round",
    "row_number", "rpad", "rtrim", "split_part", "string_agg", "substring", "sum", "timezone", "to_char", "to_date",
    "to_timestamp", "upper",
];

/// Whether PostgreSQL has a type of this name, whose values are data and name nothing.
pub(super) fn is_plain_type(name: &str) -> bool {
    PLAIN_TYPES.contains(&name)
}

/// Those that the grammar does not spell, and as people write the others.
#[rustfmt::skip]
const PLAIN_TYPES: [&str; 36] = [
    "bigint", "bit", "bool", "boolean", "bpchar", "bytea", "char", "character", "cidr", "date", "decimal", "double",
    "float", "float4", "float8", "inet", "int", "int2", "int4", "int8", "integer", "interval", "json", "jsonb",
    "money", "numeric", "real", "smallint", "text", "time", "timestamp", "timestamptz", "timetz", "uuid", "varbit",
    "varchar",
];
