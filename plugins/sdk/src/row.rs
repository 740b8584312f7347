//! Typed views of a batch: a row is a struct with a field per column, and reading one copies no text.
//!
//! `#[derive(Row)]` writes the implementations. Any value may be null, whatever the schema declares, so every field is an
//! `Option`: a rule that forgets null does not compile.

use crate::batch::{Batch, Column, LogicalType, PluginError, Request};

mod cell;

pub use cell::{Blobs, Decimals, Flags, Jsons, Texts, Values};
pub use sluice_macros::Row;

/// One row, with a field for each column that a plugin reads. Derive it.
///
/// A field's path is its name, or what `#[row("context.user.login")]` says. A pipeline whose schema lacks the column is
/// refused, unless the field is `#[row(optional)]`: then it is null in every row. With `#[row("at", setting = "column")]` the
/// settings' key `column` may name another path.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a row",
    label = "a plugin's first argument is a struct with `#[derive(Row)]`"
)]
pub trait Row<'a>: Sized {
    /// The same columns, whole.
    type View: View<'a>;
    /// The row at `row`.
    fn read(view: &Self::View, row: usize) -> Self;
}

/// The columns of a batch, typed. `#[derive(Row)]` on `Visit` makes `VisitColumns`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the columns of a row",
    label = "`#[derive(Row)]` on `Visit` makes `VisitColumns`, which `#[rule(columns)]` takes by reference"
)]
pub trait View<'a>: Sized {
    /// What is asked of the host, in order.
    const COLUMNS: &'static [Request];
    /// Checks the shape of every column once, so that reading a row need not.
    fn open(batch: &'a Batch) -> Result<Self, PluginError>;
    /// How many rows there are.
    fn count(&self) -> usize;
}

/// What a field of a row may be: an `Option` of one of the types of the contract.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a field of a row",
    label = "not a type that a column is read as",
    note = "any value may be null, so a field is an `Option`; inside it stands one of: bool, i32, i64, f64, &str, &[u8], Date32, Timestamp, Decimal, Json"
)]
pub trait Cell<'a>: Sized {
    /// The column it is read from.
    type Column;
    /// The type that is asked of the host.
    const TYPE: LogicalType;
    /// The column, if it has that type and is long enough for `rows`.
    fn open(column: &'a Column, rows: usize) -> Option<Self::Column>;
    /// The value at `row`.
    fn read(column: &Self::Column, row: usize) -> Self;
}

/// The column at `index` of the batch, read as `C`; what the derived [`View::open`] calls for every field.
pub fn open_column<'a, C: Cell<'a>>(
    batch: &'a Batch,
    index: usize,
    request: &Request,
) -> Result<C::Column, PluginError> {
    let column = batch.columns.get(index).ok_or_else(|| {
        PluginError::Internal(format!("the host passed {} columns, `{}` is missing", batch.columns.len(), request.path))
    })?;
    C::open(column, batch.rows).ok_or_else(|| {
        let Request { path, ty, .. } = request;
        PluginError::Internal(format!("the host passed `{path}` in another shape than {ty:?} of {} rows", batch.rows))
    })
}
