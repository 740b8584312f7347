//! What a rule finds: codes, declared once as an enum, and the findings that name them.

use std::marker::PhantomData;

use crate::batch::Request;

pub use sluice_macros::Codes;

/// What a finding does to its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// the row goes to the error sink
    Error,
    /// the row goes on, and carries the finding
    Warn,
}

/// One reason why a rule objects.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    /// kebab-case, from the variant's name
    pub code: &'static str,
    /// what it does to the row
    pub severity: Severity,
    /// for the person who finds the row in the error table; from the doc comment
    pub help: &'static str,
    /// the fields of the row that it judges: their values are shown beside the finding
    pub reads: &'static [&'static str],
}

/// The reasons why a rule objects: an enum whose doc comments are the help. Derive it.
///
/// `#[code(error, reads(login))]` or `#[code(warn)]` on a variant; without it, `error`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a set of codes",
    label = "`Found<…>` takes an enum with `#[derive(Codes)]`"
)]
pub trait Codes: Copy {
    /// In the order of the variants.
    const CODES: &'static [Code];
    /// Its place in [`Codes::CODES`].
    fn index(self) -> u16;
}

/// A rule's objection to one row, as it crosses the boundary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// index of the row in the batch
    pub row: u32,
    /// index of the code
    pub code: u16,
    /// index of the column at fault, where the code reads exactly one
    pub column: Option<u16>,
    /// what a person should know beyond the code's help
    pub detail: Option<String>,
}

/// Where a rule puts what it finds.
#[derive(Clone, Debug)]
pub struct Found<C> {
    pub(crate) row: u32,
    pub(crate) findings: Vec<Finding>,
    codes: PhantomData<C>,
}

impl<C> Default for Found<C> {
    fn default() -> Self {
        Found { row: 0, findings: Vec::new(), codes: PhantomData }
    }
}

impl<C: Codes> Found<C> {
    /// The rule objects to the row it was given.
    #[inline]
    pub fn push(&mut self, code: C) {
        self.findings.push(Finding { row: self.row, code: code.index(), column: None, detail: None });
    }

    /// The same, with what a person should know beyond the code's help. The host caps its length.
    #[inline]
    pub fn push_detail(&mut self, code: C, detail: impl Into<String>) {
        self.findings.push(Finding { row: self.row, code: code.index(), column: None, detail: Some(detail.into()) });
    }

    /// For `#[rule(columns)]`: the rule objects to the row at `row`.
    #[inline]
    pub fn push_at(&mut self, row: usize, code: C) {
        self.row = row as u32;
        self.push(code);
    }

    /// Names of the codes found so far, for tests.
    pub fn codes(&self) -> Vec<&'static str> {
        self.findings.iter().map(|finding| C::CODES[usize::from(finding.code)].code).collect()
    }
}

/// Where a code's field stands among the columns; [`check_reads`] has proven that it does.
pub(crate) fn column_of(field: &str, columns: &[Request]) -> Option<u16> {
    columns.iter().position(|column| column.field == field).and_then(|index| u16::try_from(index).ok())
}

/// Refuses, at compile time, a code that reads a field which the row does not have.
pub(crate) const fn check_reads(codes: &[Code], columns: &[Request]) {
    let mut code = 0;
    while code < codes.len() {
        let reads = codes[code].reads;
        let mut field = 0;
        while field < reads.len() {
            let mut column = 0;
            let mut there = false;
            while column < columns.len() {
                there = there || same(reads[field], columns[column].field);
                column += 1;
            }
            assert!(there, "a code's `reads(…)` names a field that the row does not have");
            field += 1;
        }
        code += 1;
    }
}

/// `==` is not const yet.
const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::LogicalType;

    const CODE: Code = Code { code: "late", severity: Severity::Error, help: "late", reads: &["at"] };
    const AT: Request =
        Request { field: "at", path: "event.at", ty: LogicalType::TimestampUs, required: true, setting: None };

    #[test]
    fn a_code_reads_fields_of_the_row() {
        check_reads(&[CODE], &[AT]);
        assert_eq!(column_of("at", &[AT]), Some(0));
        assert!(std::panic::catch_unwind(|| check_reads(&[CODE], &[Request { field: "ax", ..AT }])).is_err());
    }
}
