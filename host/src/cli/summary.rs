//! What a finished run did, as a screen: outcomes, tables, why rows were refused.
//!
//! [`Summary`] holds the numbers, [`Summary::render`] is pure. Whether the numbers are right is asked of the ledger and
//! the tables before they come here.

use std::fmt::Write;

use super::explain::place;
use super::run::Finished;
use super::text::{share, thousands};
use crate::audit::decide::OPERATOR;
use crate::audit::{AHEAD, DUPLICATE, LATE, RULE};
use crate::chain::Chain;
use crate::config::{SinkConfig, SinkKind};
use crate::outcome::Outcome;

/// What a finished run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// in the order in which they are shown
    pub outcomes: Vec<OutcomeLine>,
    /// records that the `skip` predicate left out
    pub skipped: u64,
    /// whether everything is accounted for; one line where it is
    pub reconciled: Option<String>,
    /// why rows are not valid, or carry warnings
    pub why: Vec<Why>,
}

/// Where the rows of one outcome are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutcomeLine {
    /// which
    pub outcome: Outcome,
    /// how many this run made
    pub rows: u64,
    /// location as written, and its version where it has versions
    pub table: String,
    /// of the table
    pub version: Option<u64>,
}

/// How often one rule objected, or one kind of record died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// `rule/code`, `stage/reason`
    pub code: String,
    /// rows
    pub rows: u64,
    /// rows for which it was unknown; `None` for dead letters
    pub unknown: Option<u64>,
    /// what must hold, or the first record of the kind
    pub note: String,
}

impl Summary {
    /// The numbers of a run. `reconciled` is what `sluice reconcile` says, if someone asked.
    pub fn of(finished: &Finished, reconciled: Option<String>) -> Summary {
        let Finished { chain, ran, applied, .. } = finished;
        let counts = finished.outcomes();
        let waiting = finished.decided.as_ref().map_or(0, |decided| decided.waiting);
        let line = |(outcome, sink): (Outcome, &SinkConfig)| OutcomeLine {
            outcome,
            rows: if outcome == Outcome::Staging { waiting } else { counts.of(outcome) },
            table: match &sink.kind {
                SinkKind::Delta(location) => location.written.clone(),
                SinkKind::Stdout => "standard output".to_owned(),
            },
            version: applied.get(&outcome).and_then(|applied| applied.version),
        };
        let mut why = findings(chain, &counts.findings, &counts.unknown);
        why.extend(ran.counts.dead.iter().map(|(code, rows)| Why {
            code: code.clone(),
            rows: *rows,
            unknown: None,
            note: ran.examples.get(code).map_or_else(String::new, |example| {
                let place = place(&chain.config, &example.partition, example.offset);
                format!("first: {place} {}", example.detail)
            }),
        }));
        Summary {
            outcomes: chain.config.sinks.each().map(line).collect(),
            skipped: ran.counts.skipped,
            reconciled,
            why,
        }
    }

    /// The screen, two spaces in, each line with its end.
    pub fn render(&self) -> String {
        let mut out = String::new();
        self.render_outcomes(&mut out).expect("a String takes all");
        if !self.why.is_empty() {
            out.push('\n');
            self.render_why(&mut out).expect("a String takes all");
        }
        out
    }

    fn render_outcomes(&self, out: &mut String) -> std::fmt::Result {
        let total: u64 = self.outcomes.iter().map(|line| line.rows).sum();
        let rows: Vec<String> = self.outcomes.iter().map(|line| thousands(line.rows)).collect();
        let shares: Vec<String> = self.outcomes.iter().map(|line| share(line.rows, total)).collect();
        let skipped = thousands(self.skipped);
        let wide = widest(rows.iter().map(String::as_str).chain([skipped.as_str()])).max(8);
        let wide_share = widest(shares.iter().map(String::as_str)).max(6);
        let wide_table = widest(self.outcomes.iter().map(|line| line.table.as_str()));
        writeln!(out, "  outcome   {:>wide$}   {:wide_share$}   table", "rows", "")?;
        for ((line, rows), share) in self.outcomes.iter().zip(&rows).zip(&shares) {
            let version = line.version.map_or_else(String::new, |version| format!("version {version}"));
            let text = format!(
                "  {:7}   {rows:>wide$}   {share:>wide_share$}   {:wide_table$}   {version}",
                line.outcome.as_str(),
                line.table
            );
            writeln!(out, "{}", text.trim_end())?;
        }
        writeln!(out, "  skipped   {skipped:>wide$}")?;
        for line in self.reconciled.iter().flat_map(|report| report.lines()) {
            writeln!(out, "  {line}")?;
        }
        Ok(())
    }

    fn render_why(&self, out: &mut String) -> std::fmt::Result {
        let rows: Vec<String> = self.why.iter().map(|why| thousands(why.rows)).collect();
        let unknown: Vec<String> =
            self.why.iter().map(|why| why.unknown.map_or_else(|| "-".to_owned(), thousands)).collect();
        let wide_code = widest(self.why.iter().map(|why| why.code.as_str())).max(3);
        let wide = widest(rows.iter().map(String::as_str)).max(6);
        let wide_unknown = widest(unknown.iter().map(String::as_str)).max(7);
        writeln!(out, "  {:wide_code$}   {:>wide$}   {:>wide_unknown$}", "why", "rows", "unknown")?;
        for ((why, rows), unknown) in self.why.iter().zip(&rows).zip(&unknown) {
            let text = format!("  {:wide_code$}   {rows:>wide$}   {unknown:>wide_unknown$}   {}", why.code, why.note);
            writeln!(out, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

/// Expectations first, then components: in the file's order, those that never objected left out.
fn findings(chain: &Chain, findings: &Counts, unknown: &Counts) -> Vec<Why> {
    let mut why = Vec::new();
    let mut add = |code: String, note: &str| {
        let (rows, unknown) = (findings.get(&code).copied(), unknown.get(&code).copied());
        if rows.is_some() || unknown.is_some() {
            why.push(Why { code, rows: rows.unwrap_or(0), unknown: Some(unknown.unwrap_or(0)), note: note.to_owned() });
        }
    };
    for expectation in &chain.config.expect {
        let help = expectation.help.as_deref().unwrap_or(&expectation.sql.text);
        add(format!("expect/{}", expectation.name), help);
    }
    for step in &chain.parts.rules {
        for code in step.plugin.codes() {
            add(format!("{}/{}", step.plugin.name(), code.code), &code.help);
        }
    }
    if let Some(audit) = &chain.config.audit {
        let unique: Vec<&str> = audit.unique.iter().map(|path| &*path.text).collect();
        add(format!("{RULE}/{LATE}"), "its window was decided before it came");
        add(format!("{RULE}/{AHEAD}"), "its event time is too far ahead to be used");
        add(format!("{RULE}/{DUPLICATE}"), &format!("a later copy of ({})", unique.join(", ")));
        add(format!("{RULE}/{OPERATOR}"), "its window was rejected by hand");
        for expectation in &audit.expect {
            add(format!("{RULE}/{}", expectation.name), &expectation.sql.text);
        }
    }
    why
}

type Counts = std::collections::BTreeMap<String, u64>;

fn widest<'a>(texts: impl Iterator<Item = &'a str>) -> usize {
    texts.map(|text| text.chars().count()).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn line(outcome: Outcome, rows: u64, table: &str, version: Option<u64>) -> OutcomeLine {
        OutcomeLine { outcome, rows, table: table.to_owned(), version }
    }

    fn why(code: &str, rows: u64, unknown: Option<u64>, note: &str) -> Why {
        Why { code: code.to_owned(), rows, unknown, note: note.to_owned() }
    }

    /// The bar holds the left edge, which `expect!` would take for its own indentation.
    fn check(summary: &Summary, screen: &Expect) {
        screen.assert_eq(&format!("|\n{}", summary.render()));
    }

    #[test]
    fn the_screen_of_the_demo() {
        let summary = Summary {
            outcomes: vec![
                line(Outcome::Valid, 97_502, "lake/visits", Some(1)),
                line(Outcome::Error, 1_998, "lake/visits_errors", Some(1)),
                line(Outcome::Dlq, 500, "lake/visits_dlq", Some(1)),
            ],
            skipped: 0,
            reconciled: Some("reconciled: 100,000 consumed, no gap, no overlap".to_owned()),
            why: vec![
                why("expect/has-user", 1_204, Some(0), "user_id IS NOT NULL"),
                why("consent/login-exposed", 402, Some(0), "a private visit carries a login"),
                why("decode/not-json", 500, None, "first: visits.ndjson:187 column 2"),
            ],
        };
        let screen = expect![[r#"
            |
              outcome       rows            table
              valid       97,502   97.5 %   lake/visits          version 1
              error        1,998    2.0 %   lake/visits_errors   version 1
              dlq            500    0.5 %   lake/visits_dlq      version 1
              skipped          0
              reconciled: 100,000 consumed, no gap, no overlap

              why                       rows   unknown
              expect/has-user          1,204         0   user_id IS NOT NULL
              consent/login-exposed      402         0   a private visit carries a login
              decode/not-json            500         -   first: visits.ndjson:187 column 2
        "#]];
        check(&summary, &screen);
    }

    #[test]
    fn large_numbers_widen_their_columns_and_nothing_is_left_over() {
        let summary = Summary {
            outcomes: vec![
                line(Outcome::Valid, 1_234_567_890, "standard output", None),
                line(Outcome::Error, 0, "s3://lake/errors", Some(12)),
            ],
            skipped: 12,
            reconciled: None,
            why: vec![],
        };
        let screen = expect![[r#"
            |
              outcome            rows             table
              valid     1,234,567,890   100.0 %   standard output
              error                 0     0.0 %   s3://lake/errors   version 12
              skipped              12
        "#]];
        check(&summary, &screen);
    }

    #[test]
    fn a_run_without_rows_has_no_shares() {
        let summary = Summary { outcomes: vec![line(Outcome::Valid, 0, "lake/visits", Some(3))], ..Summary::default() };
        let screen = expect![[r#"
            |
              outcome       rows            table
              valid            0        -   lake/visits   version 3
              skipped          0
        "#]];
        check(&summary, &screen);
    }
}
