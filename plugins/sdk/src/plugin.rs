//! What `#[rule]` and `#[enricher]` make of a function: a description, and a call over a whole batch.
//!
//! The macro names the shape of the function, [`Rows`] or [`Whole`]; the types in it are inferred from the function itself, so
//! that an author never writes a lifetime. Nothing here knows wasm: the component and the native tests call the same code.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;

use crate::batch::{Batch, Column, LogicalType, PluginError, Request};
use crate::codes::{Codes, Finding, Found, Severity, check_reads, column_of};
use crate::columns::{Columns, Produced};
use crate::row::{Row, View};
pub use crate::settings::{Config, State};

/// A plugin's own name and version, and how its instances are run.
#[derive(Clone, Copy, Debug)]
pub struct Meta {
    /// from Cargo.toml
    pub name: &'static str,
    /// from Cargo.toml
    pub version: &'static str,
    /// one instance serves many calls: for plugins whose `configure` is dear
    pub reused: bool,
}

/// A column that an instance reads, its path settled by the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnRequest {
    /// path into the row
    pub path: String,
    /// the type it is read as
    pub ty: LogicalType,
    /// whether the plugin is refused without it
    pub required: bool,
}

/// A code of a rule, with the columns it judges by index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeInfo {
    /// kebab-case
    pub code: &'static str,
    /// what it does to the row
    pub severity: Severity,
    /// for the person who finds the row
    pub help: &'static str,
    /// indexes into the columns
    pub reads: Vec<u16>,
}

/// What a rule answers to `configure`.
#[derive(Clone, Debug)]
pub struct RuleDescription {
    /// name, version, instances
    pub meta: Meta,
    /// what it reads
    pub columns: Vec<ColumnRequest>,
    /// what it finds
    pub codes: Vec<CodeInfo>,
}

/// What an enricher answers to `configure`.
#[derive(Clone, Debug)]
pub struct EnricherDescription {
    /// name, version, instances
    pub meta: Meta,
    /// what it reads
    pub columns: Vec<ColumnRequest>,
    /// what it adds
    pub produces: &'static [Produced],
    /// whether one row may become several
    pub one_to_many: bool,
}

/// The answer of an enricher to a batch.
#[derive(Clone, Debug)]
pub struct Enriched {
    /// for each row of the answer the index of the row it came from; none = one each, in order
    pub rows: Option<Vec<u32>>,
    /// in the order of the description
    pub columns: Vec<Column>,
}

/// A rule, ready to be exported or tested.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// the configuration as JSON → what the rule is, and its settings
    pub configure: fn(&str) -> Result<(RuleDescription, State), PluginError>,
    /// findings for the rows that fail
    pub check: fn(&State, &Batch) -> Result<Vec<Finding>, PluginError>,
}

/// An enricher, ready to be exported or tested.
#[derive(Clone, Copy, Debug)]
pub struct Enricher {
    /// the configuration as JSON → what the enricher is, and its settings
    pub configure: fn(&str) -> Result<(EnricherDescription, State), PluginError>,
    /// the added columns
    pub enrich: fn(&State, &Batch) -> Result<Enriched, PluginError>,
}

/// `fn(row, settings, found)`.
pub struct Rows<R, S, C>(PhantomData<(R, S, C)>);

/// `fn(row, found)`.
pub struct BareRows<R, C>(PhantomData<(R, C)>);

/// `fn(columns, settings, found)`.
pub struct Whole<V, S, C>(PhantomData<(V, S, C)>);

/// `fn(columns, found)`.
pub struct BareWhole<V, C>(PhantomData<(V, C)>);

/// `fn(row, settings) -> added`.
pub struct Adds<R, S, A>(PhantomData<(R, S, A)>);

/// `fn(row) -> added`.
pub struct BareAdds<R, A>(PhantomData<(R, A)>);

/// A function that judges, of the shape `Shape`.
pub trait Judge<'a, Shape> {
    /// The columns it reads.
    type View: View<'a>;
    /// Its settings.
    type Settings: Send + Sync + 'static;
    /// What it finds.
    type Codes: Codes;
    /// Its settings, out of a configuration.
    fn settings(config: Config) -> Result<Self::Settings, PluginError>;
    /// Judges every row of the batch.
    fn judge(&self, view: &Self::View, settings: &'a Self::Settings, found: &mut Found<Self::Codes>);
}

impl<'a, F, R: Row<'a>, S: DeserializeOwned + Send + Sync + 'static, C: Codes> Judge<'a, Rows<R, S, C>> for F
where
    F: Fn(R, &'a S, &mut Found<C>),
{
    type View = R::View;
    type Settings = S;
    type Codes = C;

    fn settings(config: Config) -> Result<S, PluginError> {
        config.read()
    }

    #[inline(always)]
    fn judge(&self, view: &R::View, settings: &'a S, found: &mut Found<C>) {
        for row in 0..view.count() {
            found.row = row as u32;
            self(R::read(view, row), settings, found);
        }
    }
}

impl<'a, F, R: Row<'a>, C: Codes> Judge<'a, BareRows<R, C>> for F
where
    F: Fn(R, &mut Found<C>),
{
    type View = R::View;
    type Settings = ();
    type Codes = C;

    fn settings(config: Config) -> Result<(), PluginError> {
        config.expect_none()
    }

    #[inline(always)]
    fn judge(&self, view: &R::View, _: &'a (), found: &mut Found<C>) {
        for row in 0..view.count() {
            found.row = row as u32;
            self(R::read(view, row), found);
        }
    }
}

impl<'a, F, V: View<'a>, S: DeserializeOwned + Send + Sync + 'static, C: Codes> Judge<'a, Whole<V, S, C>> for F
where
    F: Fn(&V, &'a S, &mut Found<C>),
{
    type View = V;
    type Settings = S;
    type Codes = C;

    fn settings(config: Config) -> Result<S, PluginError> {
        config.read()
    }

    fn judge(&self, view: &V, settings: &'a S, found: &mut Found<C>) {
        self(view, settings, found);
    }
}

impl<'a, F, V: View<'a>, C: Codes> Judge<'a, BareWhole<V, C>> for F
where
    F: Fn(&V, &mut Found<C>),
{
    type View = V;
    type Settings = ();
    type Codes = C;

    fn settings(config: Config) -> Result<(), PluginError> {
        config.expect_none()
    }

    fn judge(&self, view: &V, _: &'a (), found: &mut Found<C>) {
        self(view, found);
    }
}

/// What [`Rule::configure`] does for the function `judge`.
pub fn configure_rule<'a, F, Shape>(_: F, meta: Meta, json: &str) -> Result<(RuleDescription, State), PluginError>
where
    F: Judge<'a, Shape>,
{
    let codes = const {
        check_reads(<F::Codes as Codes>::CODES, <F::View as View<'a>>::COLUMNS);
        <F::Codes as Codes>::CODES
    };
    let requests = <F::View as View<'a>>::COLUMNS;
    let mut config = Config::parse(json)?;
    let columns = column_requests(requests, &mut config)?;
    let settings = F::settings(config)?;
    let codes = codes.iter().map(|code| CodeInfo {
        code: code.code,
        severity: code.severity,
        help: code.help,
        reads: code.reads.iter().filter_map(|field| column_of(field, requests)).collect(),
    });
    Ok((RuleDescription { meta, columns, codes: codes.collect() }, Box::new(settings)))
}

/// What [`Rule::check`] does for the function `judge`.
pub fn check<'a, F, Shape>(judge: F, state: &'a State, batch: &'a Batch) -> Result<Vec<Finding>, PluginError>
where
    F: Judge<'a, Shape>,
{
    let view = F::View::open(batch)?;
    let mut found = Found::default();
    judge.judge(&view, settings_of::<F::Settings>(state), &mut found);
    let mut findings = found.findings;
    if !findings.is_empty() {
        let column = |code: &crate::codes::Code| match code.reads {
            [field] => column_of(field, <F::View as View<'a>>::COLUMNS),
            _ => None,
        };
        let columns: Vec<Option<u16>> = F::Codes::CODES.iter().map(column).collect();
        for finding in &mut findings {
            finding.column = columns[usize::from(finding.code)];
        }
    }
    Ok(findings)
}

/// A function that adds columns, of the shape `Shape`.
pub trait Enrich<'a, Shape> {
    /// The columns it reads.
    type View: View<'a>;
    /// Its settings.
    type Settings: Send + Sync + 'static;
    /// What it answers to a row.
    type Answer: Answer;
    /// Its settings, out of a configuration.
    fn settings(config: Config) -> Result<Self::Settings, PluginError>;
    /// The answer to the row at `row`.
    fn enrich(&self, view: &Self::View, row: usize, settings: &'a Self::Settings) -> Self::Answer;
}

impl<'a, F, R: Row<'a>, S: DeserializeOwned + Send + Sync + 'static, A: Answer> Enrich<'a, Adds<R, S, A>> for F
where
    F: Fn(R, &'a S) -> A,
{
    type View = R::View;
    type Settings = S;
    type Answer = A;

    fn settings(config: Config) -> Result<S, PluginError> {
        config.read()
    }

    #[inline(always)]
    fn enrich(&self, view: &R::View, row: usize, settings: &'a S) -> A {
        self(R::read(view, row), settings)
    }
}

impl<'a, F, R: Row<'a>, A: Answer> Enrich<'a, BareAdds<R, A>> for F
where
    F: Fn(R) -> A,
{
    type View = R::View;
    type Settings = ();
    type Answer = A;

    fn settings(config: Config) -> Result<(), PluginError> {
        config.expect_none()
    }

    #[inline(always)]
    fn enrich(&self, view: &R::View, row: usize, _: &'a ()) -> A {
        self(R::read(view, row))
    }
}

/// What an enricher answers to a row: a struct of [`Columns`], or a `Vec` of them where one row becomes several.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not what an enricher adds",
    label = "an enricher returns a struct with `#[derive(Columns)]`, or a `Vec` of it"
)]
pub trait Answer {
    /// One row of it.
    type Columns: Columns;
    /// Whether it is several.
    const ONE_TO_MANY: bool;
    /// Appends its rows; how many there were.
    fn push(self, builders: &mut <Self::Columns as Columns>::Builders) -> usize;
}

impl<A: Columns> Answer for Vec<A> {
    type Columns = A;
    const ONE_TO_MANY: bool = true;
    fn push(self, builders: &mut A::Builders) -> usize {
        let rows = self.len();
        self.into_iter().for_each(|added| added.push(builders));
        rows
    }
}

/// What [`Enricher::configure`] does for the function `enrich`.
pub fn configure_enricher<'a, F, Shape>(
    _: F,
    meta: Meta,
    json: &str,
) -> Result<(EnricherDescription, State), PluginError>
where
    F: Enrich<'a, Shape>,
{
    let mut config = Config::parse(json)?;
    let columns = column_requests(<F::View as View<'a>>::COLUMNS, &mut config)?;
    let settings = F::settings(config)?;
    let produces = <F::Answer as Answer>::Columns::PRODUCES;
    let one_to_many = F::Answer::ONE_TO_MANY;
    Ok((EnricherDescription { meta, columns, produces, one_to_many }, Box::new(settings)))
}

/// What [`Enricher::enrich`] does for the function `enrich`.
pub fn enrich<'a, F, Shape>(enrich: F, state: &'a State, batch: &'a Batch) -> Result<Enriched, PluginError>
where
    F: Enrich<'a, Shape>,
{
    let view = F::View::open(batch)?;
    let settings = settings_of::<F::Settings>(state);
    let mut builders = <<F::Answer as Answer>::Columns as Columns>::Builders::default();
    let mut rows = Vec::new();
    for row in 0..view.count() {
        let answered = enrich.enrich(&view, row, settings).push(&mut builders);
        if F::Answer::ONE_TO_MANY {
            if answered == 0 {
                return Err(PluginError::Internal(format!("no row came out of row {row}: an enricher drops nothing")));
            }
            rows.extend(std::iter::repeat_n(row as u32, answered));
        }
    }
    let columns = <F::Answer as Answer>::Columns::finish(builders)?;
    Ok(Enriched { rows: F::Answer::ONE_TO_MANY.then_some(rows), columns })
}

fn column_requests(requests: &[Request], config: &mut Config) -> Result<Vec<ColumnRequest>, PluginError> {
    let settle = |request: &Request| {
        Ok(ColumnRequest { path: config.take_path(request)?, ty: request.ty, required: request.required })
    };
    requests.iter().map(settle).collect()
}

fn settings_of<S: 'static>(state: &State) -> &S {
    state.downcast_ref().expect("one plugin configures and checks, so its settings are of its own type")
}
