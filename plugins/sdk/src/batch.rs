//! The shapes that cross the boundary, as `wit/plugin.wit` describes them, and the checks that make them readable.
//!
//! One definition serves the component and the native tests; nothing here knows WIT.

/// Why a call came to nothing. Either is a failure of the plugin, never a verdict on data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginError {
    /// The configuration is wrong: which key, and what would be right.
    Config(String),
    /// Anything else.
    Internal(String),
}

impl std::fmt::Display for PluginError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PluginError::Config(text) => write!(f, "config: {text}"),
            PluginError::Internal(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for PluginError {}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogicalType {
    /// true or false
    Boolean,
    /// 32 bits, signed
    Int32,
    /// 64 bits, signed
    Int64,
    /// 64 bits, IEEE 754
    Float64,
    /// days since 1970-01-01
    Date32,
    /// microseconds since 1970-01-01T00:00:00Z
    TimestampUs,
    /// an integer of 128 bits, divided by a power of ten
    Decimal,
    /// text
    Utf8,
    /// bytes
    Binary,
    /// text, one JSON value
    Json,
}

/// A column that a plugin reads, as its row declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// name of the field in the row
    pub field: &'static str,
    /// path into the row, `context.user.login`, or a pseudo-column, `_timestamp`
    pub path: &'static str,
    /// the type it is read as
    pub ty: LogicalType,
    /// whether the plugin is refused where the schema has no such column
    pub required: bool,
    /// the settings' key that may name another path
    pub setting: Option<&'static str>,
}

/// Values of one width, end to end.
#[derive(Clone, Debug, Default)]
pub struct Fixed {
    pub(crate) data: Vec<u8>,
    pub(crate) validity: Vec<u8>,
}

/// Values of any length: rows + 1 offsets, and the bytes between them.
#[derive(Clone, Debug, Default)]
pub struct Varlen {
    pub(crate) offsets: Vec<u8>,
    pub(crate) data: Vec<u8>,
    pub(crate) validity: Vec<u8>,
}

/// One column of a batch or of an answer. Text in it is valid UTF-8, value by value: only the host and this crate can
/// make a [`Varlen`].
#[derive(Clone, Debug)]
pub enum Column {
    /// the schema has no such column
    Absent,
    /// one bit a value
    Boolean(Fixed),
    /// 4 bytes a value
    Int32(Fixed),
    /// 8 bytes a value
    Int64(Fixed),
    /// 8 bytes a value
    Float64(Fixed),
    /// 4 bytes a value
    Date32(Fixed),
    /// 8 bytes a value
    TimestampUs(Fixed),
    /// 16 bytes a value
    Decimal {
        /// digits in all
        precision: u8,
        /// digits behind the point
        scale: i8,
        /// the unscaled values
        values: Fixed,
    },
    /// text
    Utf8(Varlen),
    /// bytes
    Binary(Varlen),
    /// text, one JSON value each
    Json(Varlen),
}

/// Rows that are judged together.
#[derive(Clone, Debug)]
pub struct Batch {
    pub(crate) rows: usize,
    pub(crate) columns: Vec<Column>,
}

impl Batch {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }
}
