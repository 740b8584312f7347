//! The declared schema: Arrow's view of it, and the expectations that the declaration implies.
//!
//! Types are the shape (a misfit is a dead letter); `NOT NULL` and `CHECK` become expectations (a violation is an error).
//! Every Arrow field is therefore nullable.

use arrow::datatypes::{DataType, SchemaRef};

pub mod ddl;
pub mod name;

/// Columns that every row has beside the declared ones, or that tables store beside them.
pub const RESERVED: [&str; 14] = [
    "_topic",
    "_partition",
    "_offset",
    "_timestamp",
    "_key",
    "_value",
    "_headers",
    "_row",
    "_attempt",
    "_batch",
    "_id",
    "_findings",
    "_window",
    "_rejected",
];

/// The columns that say where a row came from. A table that has them all is accounted for by its rows.
pub const COORDINATES: [&str; 6] = ["_batch", "_topic", "_partition", "_offset", "_row", "_attempt"];

/// The window of a row, in staging only.
pub const WINDOW: &str = "_window";

/// Whether a row has an error finding, in staging only.
pub const REJECTED: &str = "_rejected";

/// Whether a column may have this name: Parquet at Delta's lowest protocol forbids some characters, a path others.
pub fn is_column_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_control() || " ,;{}()=.`\"".contains(c))
}

/// What to say where [`is_column_name`] says no.
pub(crate) const NAME_HELP: &str =
    "names have no space, and none of , ; { } ( ) = . and quotes: Parquet and paths forbid them";

/// What a row looks like.
#[derive(Clone, Debug)]
pub struct Schema {
    /// the declared columns, all nullable
    pub arrow: SchemaRef,
    /// `NOT NULL` and `CHECK` of the declaration
    pub constraints: Vec<Constraint>,
    /// the file it was read from, as shown
    pub file: std::sync::Arc<str>,
    /// the text it was read from, for digests and messages
    pub text: String,
    /// path → line (from 1) in the text where the column is declared
    pub lines: std::collections::BTreeMap<String, usize>,
}

/// An expectation that the declaration implies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraint {
    /// the finding's code: the constraint's name, or `not-null-<column>`, `check-<n>`
    pub name: String,
    /// what must not be false
    pub sql: String,
    /// line in the schema file, from 1
    pub line: usize,
    /// its bytes in the schema file: the expression of a CHECK, the column's name for NOT NULL
    pub span: std::ops::Range<usize>,
}

impl Schema {
    /// The type of a declared column, `context.user.login`; `None` where there is none.
    pub fn data_type(&self, path: &str) -> Option<&DataType> {
        let mut names = path.split('.');
        let mut found = self.arrow.field_with_name(names.next()?).ok()?.data_type();
        for name in names {
            let DataType::Struct(fields) = found else { return None };
            found = fields.find(name)?.1.data_type();
        }
        Some(found)
    }
}
