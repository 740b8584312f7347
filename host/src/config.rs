//! The pipeline file: as written (`RawConfig`, unknown keys refused, spans kept) → as meant ([`Config`]).
//!
//! Every mistake is reported at once, with line, column and a suggestion. `sluice check` walks the very code that
//! `sluice run` walks. Nothing here opens a broker or a table, plans SQL or loads a plugin: who does so starts from
//! [`Config::mistakes`] and pushes what it finds.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::outcome::{Outcome, Severity};
use crate::schema::Schema;

mod audit;
pub mod defaults;
mod expand;
mod hide;
mod mistakes;
mod plugin;
mod read;
mod reference;
mod running;
mod section;
mod sink;
mod source;
pub mod suggest;
pub mod units;

pub use audit::{AuditConfig, AuditExpectation, OnFail, Window};
pub use expand::Variables;
pub(crate) use hide::is_secret;
pub use mistakes::{Mistake, Mistakes, Place, Sources};
pub(crate) use plugin::is_name;
pub use plugin::{Limits, MaxFailures, OnFailure, PluginCode, PluginConfig, Wasi};
pub use reference::{DeriveConfig, JoinConfig, ReferenceConfig};
pub use source::Properties;

/// A pipeline as it is meant: checked, expanded, with every default filled in.
#[derive(Clone, Debug)]
pub struct Config {
    /// the pipeline file
    pub file: PathBuf,
    /// its folder: relative paths in it start here
    pub base: PathBuf,
    /// identity in the ledger
    pub name: String,
    /// folder or URL of ledger and generations
    pub state: Location,
    /// where records come from
    pub source: SourceConfig,
    /// what a row looks like
    pub schema: Arc<Schema>,
    /// path of the event time column, `context.at`
    pub event_time: Option<String>,
    /// tables that rows are joined with, by name
    pub references: Vec<ReferenceConfig>,
    /// in order
    pub enrich: Vec<EnrichConfig>,
    /// those of `[expect]`, then those of the schema
    pub expect: Vec<Expectation>,
    /// by name
    pub rules: Vec<PluginConfig>,
    /// where rows go
    pub sinks: SinksConfig,
    /// whether rows wait for a decision over their window, and how it is made
    pub audit: Option<AuditConfig>,
    /// tables that are made of the rows of a commit, by name
    pub derives: Vec<DeriveConfig>,
    /// when a commit is due
    pub commit: CommitConfig,
    /// columns whose values are masked where people look
    pub mask: Vec<String>,
    /// where metrics are served
    pub metrics: Listen,
    /// where a running host is asked to change; nowhere unless the pipeline file says so
    pub admin: Option<AdminConfig>,
    /// whether and how often the running host tends its tables
    pub upkeep: Option<UpkeepConfig>,
    /// what ends a shadow without an operator
    pub shadow: crate::shadow::Rules,
    /// the texts that places point into
    pub sources: Sources,
}

impl Config {
    /// Reads and checks a pipeline file and the schema that it names. [`Error::Mistakes`] has all mistakes at once;
    /// [`Error::Config`] where the file itself cannot be read.
    pub fn load(path: &Path) -> Result<Config> {
        Config::load_with(path, &|name| std::env::var(name).ok(), &mut |_, _| ())
    }

    /// As [`Config::load`], with `${NAME}` looked up in `variables`, and with a further check of what judges. That check
    /// runs wherever schema and enrichers could be read, even if there are mistakes elsewhere (a missing sink), so that
    /// all mistakes come at once; it pushes what it finds.
    pub fn load_with(
        path: &Path,
        variables: Variables<'_>,
        further: &mut dyn FnMut(&Judges<'_>, &mut Mistakes),
    ) -> Result<Config> {
        let unreadable = |error: std::io::Error| {
            Error::Config(format!("cannot read the pipeline file {}: {}", path.display(), expand::plain(&error)))
        };
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let shown_base = path.parent().unwrap_or(Path::new("")).to_owned();
        // free of links, so that `..` in a location means what it says
        let base = if shown_base.as_os_str().is_empty() { Path::new(".") } else { &shown_base };
        let base = base.canonicalize().map_err(unreadable)?;
        let file: Arc<str> = path.to_string_lossy().into();
        let mut sources = Sources::default();
        sources.add(file.clone(), text.as_str());
        let mut reader = section::Reader { file, base, shown_base, variables, mistakes: Mistakes::new(sources) };
        let config = read::pipeline(&text, &mut reader, further);
        reader.mistakes.into_result()?;
        config.ok_or_else(|| Error::Host(format!("{} was refused without a reason", path.display())))
    }

    /// This configuration in all that judges, and `today`'s in all else: connections, locations, sinks, when a commit is due.
    /// Those belong to a run and not to a generation.
    pub fn within(&self, today: &Config) -> Config {
        let judging = self.clone();
        let source = SourceConfig {
            skip: judging.source.skip,
            max_record: judging.source.max_record,
            unknown_fields: judging.source.unknown_fields,
            ..today.source.clone()
        };
        let mut derives = judging.derives;
        for derive in &mut derives {
            if let Some(known) = today.derives.iter().find(|known| known.name == derive.name) {
                derive.location = known.location.clone();
            }
        }
        Config {
            source,
            schema: judging.schema,
            event_time: judging.event_time,
            enrich: judging.enrich,
            expect: judging.expect,
            rules: judging.rules,
            references: judging.references,
            derives,
            sources: judging.sources,
            ..today.clone()
        }
    }

    /// What judges in this pipeline.
    pub fn judges(&self) -> Judges<'_> {
        Judges {
            schema: &self.schema,
            skip: self.source.skip.as_ref(),
            references: &self.references,
            enrich: &self.enrich,
            expect: &self.expect,
            rules: &self.rules,
            audit: self.audit.as_ref(),
            derives: &self.derives,
            sinks: Some(&self.sinks),
        }
    }

    /// The tables that are made of rows, as sinks.
    pub fn derived(&self) -> impl Iterator<Item = (Outcome, &Location)> {
        self.derives.iter().map(|derive| (Outcome::derived(&derive.name), &derive.location))
    }

    /// Where the rows of an outcome go; `None` where that is no table.
    pub fn table(&self, outcome: Outcome) -> Option<&Location> {
        let sink = match outcome {
            Outcome::Valid | Outcome::Error | Outcome::Dlq | Outcome::Staging => self.sinks.of(outcome)?,
            Outcome::Derived(_) => return self.derived().find(|(known, _)| *known == outcome).map(|(_, at)| at),
        };
        match &sink.kind {
            SinkKind::Delta(location) => Some(location),
            SinkKind::Stdout => None,
        }
    }

    /// Every table of the pipeline, in the order in which they follow the ledger.
    pub fn tables(&self) -> impl Iterator<Item = (Outcome, &Location)> {
        let sinks = Outcome::ALL.into_iter().filter_map(|outcome| Some((outcome, self.table(outcome)?)));
        sinks.chain(self.derived())
    }

    /// An empty collector that can show places in the pipeline file and in its schema.
    pub fn mistakes(&self) -> Mistakes {
        Mistakes::new(self.sources.clone())
    }
}

/// What judges a row: all that planning SQL and loading plugins needs to see.
#[derive(Clone, Copy, Debug)]
pub struct Judges<'c> {
    /// the declared columns
    pub schema: &'c Arc<Schema>,
    /// over pseudo-columns only
    pub skip: Option<&'c Sql>,
    /// by name
    pub references: &'c [ReferenceConfig],
    /// in order
    pub enrich: &'c [EnrichConfig],
    /// see [`Config::expect`]
    pub expect: &'c [Expectation],
    /// by name
    pub rules: &'c [PluginConfig],
    /// over whole windows
    pub audit: Option<&'c AuditConfig>,
    /// by name
    pub derives: &'c [DeriveConfig],
    /// what derived tables are made of; `None` where the file names them wrongly
    pub sinks: Option<&'c SinksConfig>,
}

/// A place: the text that the user wrote, and what it means.
#[derive(Clone, PartialEq, Eq)]
pub struct Location {
    /// as written, placeholders unexpanded; for messages
    pub written: String,
    /// absolute URL (`file:///…`, `s3://…`)
    pub url: url::Url,
}

/// As written: what a placeholder stands for may be a secret.
impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Location").field(&self.written).finish()
    }
}

/// Where records come from.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// exactly one kind
    pub kind: SourceKind,
    /// SQL over pseudo-columns: true = counted as skipped
    pub skip: Option<Sql>,
    /// bytes of the longest payload that is decoded
    pub max_record: usize,
    /// what becomes of fields that the schema does not have
    pub unknown_fields: UnknownFields,
}

/// The kinds of source.
#[derive(Clone, Debug)]
pub enum SourceKind {
    /// topics of a Kafka cluster
    Kafka(KafkaSource),
    /// globs relative to the pipeline file
    Files(Vec<String>),
    /// standard input
    Stdin,
}

/// Topics, and how to reach them.
#[derive(Clone, Debug)]
pub struct KafkaSource {
    /// topics by name, or one regular expression (`^…`) from `pattern`
    pub topics: Vec<String>,
    /// consumer group; default the pipeline's name
    pub group: String,
    /// where to begin without a position
    pub start: StartPoint,
    /// what librdkafka is told: brokers, security, `[kafka.properties]`. Secret values among them
    pub properties: Properties,
}

/// Where to begin without a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartPoint {
    /// the first record there is
    Earliest,
    /// the next record that comes
    Latest,
    /// the first record at or after, milliseconds since the epoch
    Timestamp(i64),
}

/// What becomes of fields that the schema does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownFields {
    /// they are left out
    Ignore,
    /// the record is dead
    Reject,
}

/// A piece of SQL and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sql {
    /// the expression
    pub text: String,
    /// where it was written
    pub place: Place,
}

/// What must hold for a row, in SQL.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// the finding's code
    pub name: Arc<str>,
    /// null passes and is counted
    pub sql: Sql,
    /// what a violation does
    pub severity: Severity,
    /// shown beside a finding; default the SQL itself
    pub help: Option<String>,
}

/// One step that adds columns.
#[derive(Clone, Debug)]
pub enum EnrichConfig {
    /// new column → expression, in order
    Sql {
        /// for messages
        name: Arc<str>,
        /// the columns
        columns: Vec<(String, Sql)>,
    },
    /// columns of a reference table
    Reference(JoinConfig),
    /// a component
    Plugin(Box<PluginConfig>),
}

/// A name and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// of a column, mostly
    pub name: String,
    /// where it was written
    pub place: Place,
}

/// One sink per outcome: none has a default.
#[derive(Clone, Debug)]
pub struct SinksConfig {
    /// every rule passed
    pub valid: SinkConfig,
    /// a rule said no
    pub error: SinkConfig,
    /// nobody could judge it
    pub dlq: SinkConfig,
    /// where rows wait for the decision over their window; there if and only if there is `[audit]`
    pub staging: Option<SinkConfig>,
}

impl SinksConfig {
    /// The sink of an outcome.
    pub fn of(&self, outcome: Outcome) -> Option<&SinkConfig> {
        match outcome {
            Outcome::Valid => Some(&self.valid),
            Outcome::Error => Some(&self.error),
            Outcome::Dlq => Some(&self.dlq),
            Outcome::Staging => self.staging.as_ref(),
            Outcome::Derived(_) => None,
        }
    }

    /// All of them, in the order in which they follow the ledger.
    pub fn each(&self) -> impl Iterator<Item = (Outcome, &SinkConfig)> {
        Outcome::ALL.into_iter().filter_map(|outcome| Some((outcome, self.of(outcome)?)))
    }
}

/// One sink.
#[derive(Clone, Debug)]
pub struct SinkConfig {
    /// exactly one kind
    pub kind: SinkKind,
    /// expressions of the stored columns, `None` = all declared and added columns
    pub columns: Option<Vec<SinkColumn>>,
    /// whether `_topic _partition _offset _row _attempt _batch _findings` are stored beside them
    pub provenance: bool,
    /// columns that partition the table
    pub partition_by: Vec<String>,
    /// how long rows stay in the table, `None` = for ever
    pub keep: Option<Duration>,
}

/// `_key AS key`: a stored column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkColumn {
    /// name in the table
    pub name: String,
    /// path of the column
    pub path: String,
    /// where it was written
    pub place: Place,
}

/// The kinds of sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkKind {
    /// a Delta table
    Delta(Location),
    /// JSON lines on standard output
    Stdout,
}

/// Where an endpoint listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Listen {
    /// on loopback, on the usual port or the next free one
    #[default]
    Default,
    /// there and nowhere else: `host:port`
    At(String),
    /// nowhere
    Off,
}

/// `[upkeep]`: what `sluice maintain` does, by the running host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpkeepConfig {
    /// how often
    pub every: Duration,
    /// files that nothing refers to are left alone until they are older
    pub older_than: Duration,
}

/// `[admin]`: where a running host is asked to change, and by whom.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminConfig {
    /// `host:port`
    pub listen: String,
    /// whoever knows it may
    pub token: String,
}

/// Without the token.
impl fmt::Debug for AdminConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminConfig").field("listen", &self.listen).finish_non_exhaustive()
    }
}

/// When a commit is due: whatever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitConfig {
    /// time since the entry was opened
    pub every: Duration,
    /// records
    pub rows: u64,
    /// bytes of keys and payloads
    pub bytes: u64,
}
