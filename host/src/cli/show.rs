//! `sluice show`: what is in the tables. It reads them as they are, and changes nothing.

use std::collections::BTreeMap;
use std::io::{self, Write};

use datafusion::execution::SendableRecordBatchStream;

use super::text::{bytes, plural, share, thousands};
use super::{PipelineArg, Verdict, open};
use crate::config::Config;
use crate::error::{Doing, Error, Result};
use crate::outcome::Outcome;
use crate::sink::look::{self, Counts};
use crate::store;
use crate::stored::tables;

/// Rows that are shown where nobody says how many.
const ROWS: usize = 10;

/// Show what is in the tables: counts, rows, or the answer to a query.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sluice show                     how much is in each table\n  \
sluice show error               counts and the first rows\n  \
sluice show dlq --rows 100 --json\n  \
sluice show --sql 'SELECT reason, count(*) FROM dlq GROUP BY reason'")]
pub struct ShowArgs {
    /// valid, error, dlq or derive/NAME; all of them without it
    #[arg(value_name = "SINK", value_parser = super::inspect::parse_outcome)]
    pub sink: Option<Outcome>,
    /// A query over the tables `valid`, `error` and `dlq`, and derived tables by their names
    #[arg(long, value_name = "QUERY", conflicts_with_all = ["sink", "rows"])]
    pub sql: Option<String>,
    /// Rows to show [default: 10]
    #[arg(long, short = 'n', value_name = "N", requires = "sink")]
    pub rows: Option<usize>,
    /// Whose tables
    #[command(flatten)]
    pub pipeline: PipelineArg,
    /// As JSON: one object per row with --sql or --rows, otherwise one object per table
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(args: &ShowArgs) -> Result<Verdict> {
    let config = Config::load(&args.pipeline.config)?;
    let runtime = open::runtime()?;
    let shown = runtime.block_on(async {
        let tables = Tables::open(&config).await?;
        tables.show(args, &mut io::stdout().lock()).await
    });
    match shown {
        // `sluice show … | head` has seen enough
        Err(Error::Environment { source, .. }) if is_closed(source.as_ref()) => Ok(Verdict::Done),
        other => other.map(|()| Verdict::Done),
    }
}

fn is_closed(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The tables of a pipeline, those that are there.
struct Tables {
    /// where each one is, as the user wrote it; `None` for a sink that is no table
    places: BTreeMap<Outcome, Option<String>>,
    found: tables::Tables,
}

impl Tables {
    async fn open(config: &Config) -> Result<Self> {
        let (mut places, mut found) = (BTreeMap::new(), BTreeMap::new());
        for (outcome, location) in config.tables() {
            if let Some(table) = look::open(location, store::open(location)?.0).await? {
                found.insert(outcome, table);
            }
            places.insert(outcome, Some(location.written.clone()));
        }
        for (outcome, _) in config.sinks.each() {
            places.entry(outcome).or_insert(None);
        }
        Ok(Tables { places, found: tables::Tables::of(found).await? })
    }

    async fn show(&self, args: &ShowArgs, out: &mut impl Write) -> Result<()> {
        match (&args.sql, args.sink) {
            (Some(sql), _) => self.query(sql, args.json, out).await,
            (None, Some(outcome)) => self.one(outcome, args, out).await,
            (None, None) => self.all(args.json, out).await,
        }
    }

    async fn query(&self, sql: &str, json: bool, out: &mut impl Write) -> Result<()> {
        let answer = look::query(self.found.session(), sql).await.map_err(|error| match self.missing() {
            Some(missing) => Error::Config(format!("{error}\n{missing}")),
            None => error,
        })?;
        if json {
            return look::stream_lines(answer, out).await.map(drop);
        }
        let (schema, rows) = look::collect(answer).await?;
        print(out, &look::grid(&schema, &rows)?)
    }

    /// The tables that a query cannot name, in a sentence.
    fn missing(&self) -> Option<String> {
        let missing: Vec<_> = self.places.keys().filter(|outcome| self.found.get(**outcome).is_none()).collect();
        let names: Vec<_> = missing.iter().map(|outcome| outcome.as_str()).collect();
        (!names.is_empty()).then(|| format!("there is no table yet for: {}", names.join(", ")))
    }

    async fn one(&self, outcome: Outcome, args: &ShowArgs, out: &mut impl Write) -> Result<()> {
        let place = match self.places.get(&outcome) {
            Some(Some(place)) => place,
            None => return Err(Error::Config(format!("the pipeline has no sink `{outcome}`"))),
            Some(None) => {
                return Err(Error::Config(format!("sink `{outcome}` is standard output: there is no table to show")));
            }
        };
        let Some(table) = self.found.get(outcome) else {
            return Err(Error::Config(format!("there is no table at {place} yet: `sluice run` creates it")));
        };
        let limit = args.rows.unwrap_or(ROWS);
        if args.json {
            if args.rows.is_none() {
                let superseded = self.found.superseded(outcome).await?;
                return print(out, &object(outcome, place, &table.counts().await?, superseded));
            }
            return look::stream_lines(self.first(outcome, limit).await?, out).await.map(drop);
        }
        let counts = table.counts().await?;
        print(out, &headline(outcome, place, &counts, self.found.superseded(outcome).await?))?;
        for (partition, size) in &counts.partitions {
            let (rows, files) = (thousands(size.rows), plural(size.files as u64, "file"));
            let share = share(size.rows, counts.rows);
            print(out, &format!("  {partition:<32} {rows:>14} {share:>8}   {files}, {}", bytes(size.bytes)))?;
        }
        if limit > 0 && counts.rows > 0 {
            let (schema, rows) = look::collect(self.first(outcome, limit).await?).await?;
            print(out, &look::grid(&schema, &rows)?)?;
        }
        Ok(())
    }

    /// Rows that no later attempt took the place of.
    async fn first(&self, outcome: Outcome, limit: usize) -> Result<SendableRecordBatchStream> {
        let doing = || format!("cannot read the rows of {outcome}");
        let rows = self.found.latest(outcome, None).await?.limit(0, Some(limit)).doing(doing)?;
        rows.execute_stream().await.doing(doing)
    }

    async fn all(&self, json: bool, out: &mut impl Write) -> Result<()> {
        for (outcome, place) in &self.places {
            match (place, self.found.get(*outcome)) {
                (Some(place), Some(table)) => {
                    let (counts, superseded) = (table.counts().await?, self.found.superseded(*outcome).await?);
                    let line = if json { object } else { headline };
                    print(out, &line(*outcome, place, &counts, superseded))?;
                }
                _ if json => {}
                (Some(place), None) => print(out, &format!("{:<6} {place}   no table yet", outcome.as_str()))?,
                (None, _) => print(out, &format!("{:<6} standard output", outcome.as_str()))?,
            }
        }
        Ok(())
    }
}

fn headline(outcome: Outcome, place: &str, counts: &Counts, superseded: u64) -> String {
    let mut rows = plural(counts.rows, "row");
    if superseded > 0 {
        rows += &format!(", {} of them superseded by a replay", thousands(superseded));
    }
    let files = plural(counts.files as u64, "file");
    let (name, size) = (outcome.as_str(), bytes(counts.bytes));
    format!("{name:<6} {place}   version {} · {rows} · {files}, {size}", counts.version)
}

fn object(outcome: Outcome, place: &str, counts: &Counts, superseded: u64) -> String {
    serde_json::json!({ "sink": outcome, "location": place, "counts": counts, "superseded": superseded }).to_string()
}

fn print(out: &mut impl Write, text: &str) -> Result<()> {
    writeln!(out, "{text}").doing(|| "cannot write to standard output".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::Sink;
    use crate::sink::fixture::{Lake, pages};

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: ShowArgs,
    }

    async fn shown(tables: &Tables, line: &str) -> Result<String> {
        let line: Line = clap::Parser::try_parse_from(format!("show {line}").split_whitespace()).unwrap();
        let mut out = Vec::new();
        tables.show(&line.args, &mut out).await?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn counts_rows_and_queries() {
        let lake = Lake::new().await;
        let sink = lake.sink(&["page"]);
        lake.begin(&sink, &pages(&[]).schema()).await;
        let head = lake.rows(&sink, &pages(&[(1, Some("a")), (2, None), (3, Some("a"))])).await;
        sink.apply(&lake.ledger, head).await.unwrap();
        let (store, _) = lake.store("valid");
        let table = look::open(&lake.location("valid"), store).await.unwrap().unwrap();
        let places =
            [(Outcome::Valid, Some("lake/visits")), (Outcome::Error, Some("lake/visits_errors")), (Outcome::Dlq, None)];
        let tables = Tables {
            places: places.into_iter().map(|(outcome, place)| (outcome, place.map(str::to_owned))).collect(),
            found: tables::Tables::of(BTreeMap::from([(Outcome::Valid, table)])).await.unwrap(),
        };

        let all = shown(&tables, "").await.unwrap();
        let lines: Vec<_> = all.lines().collect();
        assert!(lines[0].starts_with("valid  lake/visits   version 1 · 3 rows · 2 files, "), "{all}");
        assert_eq!(lines[1..], ["error  lake/visits_errors   no table yet", "dlq    standard output"]);

        let one = shown(&tables, "valid --rows 1").await.unwrap();
        assert!(one.contains("page=a") && one.contains("66.7 %   1 file"), "{one}");
        assert_eq!(one.lines().filter(|line| line.starts_with("| ")).count(), 2, "{one}");

        assert_eq!(shown(&tables, "valid --rows 9 --json").await.unwrap().lines().count(), 3);
        let counts: serde_json::Value = serde_json::from_str(&shown(&tables, "valid --json").await.unwrap()).unwrap();
        assert_eq!((&counts["sink"], &counts["counts"]["rows"]), (&"valid".into(), &3.into()));

        let query = ["show", "--json", "--sql", "SELECT sum(id) AS n FROM valid WHERE page = 'a'"];
        let line: Line = clap::Parser::try_parse_from(query).unwrap();
        let mut out = Vec::new();
        tables.show(&line.args, &mut out).await.unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "{\"n\":4}\n");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_no_table_is_said() {
        let tables = Tables {
            places: BTreeMap::from([(Outcome::Error, Some("lake/e".into())), (Outcome::Dlq, None)]),
            found: tables::Tables::of(BTreeMap::new()).await.unwrap(),
        };
        for (line, said) in [("dlq", "is standard output"), ("error", "no table at lake/e yet")] {
            let error = shown(&tables, line).await.unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        let line: Line = clap::Parser::try_parse_from(["show", "--sql", "SELECT 1 FROM error"]).unwrap();
        let error = tables.show(&line.args, &mut Vec::new()).await.unwrap_err().to_string();
        assert!(error.contains("there is no table yet for: error, dlq"), "{error}");
    }
}
