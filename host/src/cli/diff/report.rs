//! What a diff tells: text for a terminal, Markdown for a pull request, one JSON object for a script.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use super::DiffArgs;
use crate::chain::Chain;
use crate::cli::explain::place;
use crate::cli::text::{plural, thousands};
use crate::compare::{Flip, Summary, Tally, name};

/// Two generations and what they make of history.
pub(super) struct Report<'a> {
    pub args: &'a DiffArgs,
    pub before: &'a Chain,
    pub after: &'a Chain,
    pub summary: &'a Summary,
    pub unasked: &'a BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    pub ok: bool,
}

impl Report<'_> {
    pub fn render(&self) -> String {
        match (self.args.json, self.args.markdown) {
            (true, _) => format!("{}\n", self.json()),
            (false, true) => self.markdown(),
            (false, false) => self.text(),
        }
    }

    fn changes(&self) -> String {
        let changes = self.after.generation.changes(&self.before.generation);
        if changes.is_empty() { "nothing: they are the same generation".into() } else { changes.join(", ") }
    }

    /// `16 of 2,000 records flip (0.8 %)`: as many digits as it takes to tell it from the budget.
    fn verdict(&self) -> String {
        let Summary { records, flipped_records, .. } = self.summary;
        let percent = self.summary.flipped_percent();
        let digits = if percent > 0.0 && percent < 0.1 { 3 } else { 1 };
        let verb = if *flipped_records == 1 { "flips" } else { "flip" };
        let share =
            format!("{} of {} {verb} ({percent:.digits$} %", thousands(*flipped_records), plural(*records, "record"));
        let budget = format!("{} % may", self.args.max_flips);
        if self.ok { format!("{share}, {budget})") } else { format!("{share}, and {budget})") }
    }

    fn samples(&self, tally: &Tally) -> Vec<String> {
        tally.samples.iter().map(|at| place(&self.before.config, &at.partition, at.offset)).collect()
    }

    /// The reasons of a flip, the most frequent first.
    fn reasons(&self, flip: &Flip) -> Vec<(&str, &Tally)> {
        let mut reasons: Vec<(&str, &Tally)> = self
            .summary
            .reasons
            .iter()
            .filter(|((of, _), _)| of == flip)
            .map(|((_, reason), tally)| (reason.as_str(), tally))
            .collect();
        reasons.sort_by_key(|(_, tally)| std::cmp::Reverse(tally.rows));
        reasons
    }

    /// Findings, columns and what else differs beside flips: what, and how.
    fn others(&self) -> Vec<(String, String)> {
        let Summary { gained, lost, columns, added, removed, .. } = self.summary;
        let keys: BTreeSet<&String> = gained.keys().chain(lost.keys()).collect();
        let of = |tallies: &BTreeMap<String, Tally>, key: &String| tallies.get(key).map_or(0, |tally| tally.rows);
        let finding = |key: &String| {
            let how = format!("+{} −{}", thousands(of(gained, key)), thousands(of(lost, key)));
            (format!("finding {key}"), how)
        };
        let mut others: Vec<_> = keys.into_iter().map(finding).collect();
        let changed = |(column, tally): (&String, &Tally)| {
            (format!("column {column}"), format!("another value in {}", plural(tally.rows, "row")))
        };
        others.extend(columns.iter().map(changed));
        others.extend(added.iter().map(|column| (format!("column {column}"), "new".to_owned())));
        others.extend(removed.iter().map(|column| (format!("column {column}"), "gone".to_owned())));
        others
    }

    fn not_asked(&self) -> Vec<String> {
        let sentence = |(who, reads): (&Arc<str>, &BTreeSet<Arc<str>>)| {
            let reads: Vec<&str> = reads.iter().map(|path| &**path).collect();
            format!(
                "{who} was not asked about all rows: it reads {}, which {} does not store",
                reads.join(", "),
                self.args.on
            )
        };
        self.unasked.iter().map(sentence).collect()
    }

    fn text(&self) -> String {
        let (before, after) = (self.before.generation.short(), self.after.generation.short());
        let mut text = format!("{}: {}\n", self.args.on, self.verdict());
        let _ = writeln!(text, "  generation  {before} → {after}   changed: {}", self.changes());
        for (flip, tally) in &self.summary.flips {
            let way = format!("{} → {}", name(flip.0), name(flip.1));
            let _ = writeln!(text, "  {way:<14} {:>11}", thousands(tally.rows));
            for (reason, tally) in self.reasons(flip) {
                let samples = self.samples(tally).join("  ");
                let _ = writeln!(text, "    {reason:<26} {:>11}   {samples}", thousands(tally.rows));
            }
        }
        for (what, how) in self.others() {
            let _ = writeln!(text, "  {what:<40} {how}");
        }
        for sentence in self.not_asked() {
            let _ = writeln!(text, "  {sentence}");
        }
        text
    }

    fn markdown(&self) -> String {
        let (before, after) = (self.before.generation.short(), self.after.generation.short());
        let mark = if self.ok { "✅" } else { "❌" };
        let mut text = format!("### {mark} `{}`: {}\n\n", self.args.on, self.verdict());
        let _ = writeln!(text, "Generation `{before}` → `{after}`, changed: {}\n", cell(&self.changes()));
        if !self.summary.flips.is_empty() {
            text += "| flip | why | rows | for example |\n|---|---|---:|---|\n";
        }
        for (flip, tally) in &self.summary.flips {
            let way = format!("{} → {}", name(flip.0), name(flip.1));
            let reasons = self.reasons(flip);
            let whole = [("", tally)];
            for (reason, tally) in if reasons.is_empty() { &whole[..] } else { &reasons[..] } {
                let samples: Vec<String> = self.samples(tally).iter().map(|at| format!("`{}`", cell(at))).collect();
                let rows = thousands(tally.rows);
                let _ = writeln!(text, "| {way} | {} | {rows} | {} |", cell(reason), samples.join(" "));
            }
        }
        let others = self.others();
        if !others.is_empty() {
            text += "\n| | |\n|---|---|\n";
        }
        for (what, how) in others {
            let _ = writeln!(text, "| {} | {} |", cell(&what), cell(&how));
        }
        for sentence in self.not_asked() {
            let _ = writeln!(text, "\n{sentence}");
        }
        text
    }

    fn json(&self) -> serde_json::Value {
        let unasked: BTreeMap<&str, Vec<&str>> =
            self.unasked.iter().map(|(name, reads)| (&**name, reads.iter().map(|path| &**path).collect())).collect();
        let mut summary = self.summary.json();
        summary["on"] = self.args.on.as_str().into();
        summary["before"] = self.before.generation.hash.as_str().into();
        summary["after"] = self.after.generation.hash.as_str().into();
        summary["changes"] = self.after.generation.changes(&self.before.generation).into();
        summary["flipped_percent"] = self.summary.flipped_percent().into();
        summary["max_flips_percent"] = self.args.max_flips.into();
        summary["ok"] = self.ok.into();
        summary["unasked"] = serde_json::json!(unasked);
        serde_json::json!({ "summary": summary })
    }
}

/// Text within a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
