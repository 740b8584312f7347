//! What is told about one record: where it is, why, and what would be said of it now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StructArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{Int32Type, SchemaRef, TimestampMicrosecondType};
use chrono::{DateTime, Utc};

use super::{At, Found};
use crate::audit;
use crate::chain::{Chain, Judged, dead_key};
use crate::cli::run::short;
use crate::cli::text::{Paint, bytes as bytes_text};
use crate::cli::{r#try, values};
use crate::columns;
use crate::config::SourceKind;
use crate::error::{Error, Result};
use crate::expect::RULE;
use crate::ledger::Entry;
use crate::outcome::{Finding, Outcome, Severity};
use crate::record::Batch;
use crate::stored::{Layout, letters, tables};

/// A record's way.
pub(super) struct Story<'a> {
    pub chain: &'a Chain,
    pub at: &'a At,
    /// those that account for it, the last word first; at least one
    pub entries: &'a [(u64, Arc<Entry>)],
    /// its rows by ordinal and attempt
    pub found: &'a [Found],
    /// sinks in which the record could not be looked up, and why
    pub unseen: &'a [String],
    /// the sink that let go of rows as old as its, and from when on it keeps any
    pub expired: Option<(Outcome, DateTime<Utc>)>,
    pub paint: Paint,
}

/// ` · devices 3`: what rows were joined with.
fn versions(references: &BTreeMap<String, String>) -> String {
    references.iter().map(|(name, version)| format!(" · {name} {version}")).collect()
}

impl Story<'_> {
    /// For people.
    pub fn text(&self) -> Result<String> {
        let paint = self.paint;
        let mut text = self.head();
        if self.found.is_empty() {
            text += &self.nowhere();
        }
        let ordinals: BTreeSet<i32> = self.found.iter().map(|found| found.ordinal).collect();
        for found in self.found {
            let Found { outcome, place, row, ordinal, attempt, superseded } = found;
            let name = match outcome {
                Outcome::Valid => paint.green("valid"),
                Outcome::Error => paint.red("error"),
                Outcome::Dlq => paint.yellow("dlq"),
                Outcome::Staging => paint.yellow("staging"),
                Outcome::Derived(derived) => derived.name().to_owned(),
            };
            let which = match ordinals.len() {
                1 => String::new(),
                n => format!(" · row {} of {n}", ordinals.range(..ordinal).count() + 1),
            };
            let of_row = self.found.iter().filter(|found| found.ordinal == *ordinal);
            let again = match (of_row.count(), superseded) {
                (1, _) if *attempt == 0 => String::new(),
                (_, true) => format!(" · attempt {attempt}, superseded"),
                (_, false) => format!(" · attempt {attempt}"),
            };
            let (number, entry) = self.entry_of(row);
            let generation = short(&entry.generation);
            let joined = versions(&entry.references);
            text += &format!("→ {name}   {place} · entry {number} · generation {generation}{joined}{which}{again}\n");
            text += &match outcome {
                Outcome::Dlq => self.dead(row),
                Outcome::Valid | Outcome::Error | Outcome::Staging | Outcome::Derived(_) => {
                    self.findings(row, entry)?
                }
            };
            if !superseded {
                text += &self.now(found, entry)?;
            }
        }
        Ok(text)
    }

    /// The last word on the record.
    fn last(&self) -> (u64, &Entry) {
        let (number, entry) = self.entries.first().expect("a story is told of a record that some entry accounts for");
        (*number, entry)
    }

    /// The entry that put a row into its table.
    fn entry_of(&self, row: &RecordBatch) -> (u64, &Entry) {
        let batch = string(row, "_batch");
        let of_row = self.entries.iter().find(|(_, entry)| batch.as_deref() == Some(&*entry.id.to_string()));
        of_row.map_or_else(|| self.last(), |(number, entry)| (*number, &**entry))
    }

    /// What to say of a record that has no row.
    fn nowhere(&self) -> String {
        let (number, entry) = self.last();
        if !self.unseen.is_empty() {
            return format!("→ not found   entry {number} · {}\n", self.unseen.join("; "));
        }
        if let Some((outcome, from)) = self.expired {
            let or = if entry.counts.skipped > 0 { ", or the source's `skip` predicate left it out" } else { "" };
            return format!("→ expired   {outcome} keeps no rows from before {from}{or} · entry {number}\n");
        }
        if entry.counts.skipped > 0 {
            return format!("→ skipped   by the source's `skip` predicate · entry {number}\n");
        }
        format!("→ not found   entry {number} accounts for it, but no table has it; see `sluice reconcile`\n")
    }

    /// `visits p0 offset 184311 · time · key · bytes`, as far as the tables keep it.
    fn head(&self) -> String {
        let At { partition, offset } = self.at;
        let mut head = match self.chain.config.source.kind {
            SourceKind::Kafka(_) => format!("{} p{} offset {offset}", partition.topic, partition.partition),
            SourceKind::Files(_) | SourceKind::Stdin => format!("{} line {offset}", partition.topic),
        };
        if let Some(Found { outcome: Outcome::Dlq, row, .. }) = self.found.first() {
            let time = row.column_by_name("_timestamp").and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
            if let Some(time) =
                time.filter(|t| t.is_valid(0)).and_then(|t| chrono::DateTime::from_timestamp_micros(t.value(0)))
            {
                head += &format!(" · {}", time.format("%Y-%m-%d %H:%M:%S%.3fZ"));
            }
            if let Some(key) = binary(row, "_key").filter(|_| self.chain.config.mask.is_empty()) {
                head += &format!(" · key {}", String::from_utf8_lossy(&key).escape_debug());
            }
            if let Some(value) = binary(row, "_value") {
                head += &format!(" · {}", bytes_text(value.len() as u64));
            }
        }
        self.paint.bold(&head) + "\n"
    }

    fn dead(&self, row: &RecordBatch) -> String {
        let of = |name| string(row, name).unwrap_or_default();
        let plugin =
            string(row, "plugin").map_or(String::new(), |plugin| format!(" · {plugin} ({})", short(&of("digest"))));
        let mut text =
            format!("  {} {}/{}   {}{plugin}\n", self.paint.yellow("†"), of("stage"), of("reason"), of("detail"));
        if let Some(value) = binary(row, "_value") {
            let shown: String = String::from_utf8_lossy(&value).chars().take(120).collect();
            let more = if shown.len() < value.len() { " …" } else { "" };
            // the payload is the one thing that masks cannot be applied to: with masks, it is not shown
            if self.chain.config.mask.is_empty() {
                text += &format!("  payload  {}{more}\n", shown.escape_debug());
            }
        }
        text
    }

    fn findings(&self, row: &RecordBatch, entry: &Entry) -> Result<String> {
        let stored = stored_findings(row);
        let batch = self.batch_of(row, self.chain.schema())?;
        let mut text = String::new();
        let mut spoke = BTreeSet::new();
        for finding in &stored {
            let sign = match finding.severity {
                Severity::Error => self.paint.red("✗"),
                Severity::Warn => self.paint.yellow("!"),
            };
            text += &format!("  {sign} {}\n", values::reason(self.chain, &batch, 0, finding));
            spoke.insert(if &*finding.rule == RULE { finding.code.clone() } else { finding.rule.clone() });
        }
        // who passed is known only while the same generation is in force
        if entry.generation == self.chain.generation.hash {
            let rules = self.chain.parts.rules.iter().map(|step| step.plugin.name().clone());
            let expectations = self.chain.config.expect.iter().map(|e| e.name.clone());
            let passed: Vec<_> =
                rules.chain(expectations).filter(|name| !spoke.contains(name)).map(|n| n.to_string()).collect();
            if !passed.is_empty() {
                text += &format!("  {} {}\n", self.paint.green("✓"), passed.join(", "));
            }
        }
        Ok(text)
    }

    /// What today's generation would say, and what brings the row there.
    fn now(&self, found: &Found, entry: &Entry) -> Result<String> {
        let Found { outcome, row, .. } = found;
        let unknown = self.unknowable(*outcome, row, entry)?;
        let judged = self.judge_again(*outcome, row)?;
        let mut reasons: Vec<String> = Vec::new();
        let is_known = |finding: &Finding| !unknown.contains(finding.judge());
        for finding in &judged.findings {
            if is_known(finding) {
                reasons.push(if &*finding.rule == RULE {
                    finding.code.to_string()
                } else {
                    format!("{}/{}", finding.rule, finding.code)
                });
            }
        }
        reasons.extend(judged.dead.iter().map(dead_key));
        // what the audit said of its window stands, whatever the rules say of the row
        let decided =
            stored_findings(row).into_iter().filter(|f| &*f.rule == audit::RULE && f.severity == Severity::Error);
        let decided: Vec<String> = decided.map(|finding| format!("{}/{}", finding.rule, finding.code)).collect();
        let is_decided = !decided.is_empty();
        reasons.extend(decided);
        let errs = is_decided || judged.findings.iter().any(|f| f.severity == Severity::Error && is_known(f));
        let now = match (judged.dead.is_empty(), errs) {
            _ if judged.counts.skipped > 0 => None,
            (false, _) => Some(Outcome::Dlq),
            (true, true) => Some(Outcome::Error),
            (true, false) => Some(Outcome::Valid),
        };
        let generation = &self.chain.generation;
        let same = if generation.hash == entry.generation { "the same generation" } else { "generation" };
        let today = self.chain.parts.references.pinned()?.versions();
        let joined = if today == entry.references { String::new() } else { versions(&today) };
        let now_said = now.map_or("skipped", Outcome::as_str);
        let mut text = format!("now    {same} {}{joined} would say: {now_said}", generation.short());
        if !reasons.is_empty() {
            text += &format!(" ({})", reasons.join(", "));
        }
        if !unknown.is_empty() {
            let names: Vec<&str> = unknown.iter().map(|n| &**n).collect();
            text += &format!("\n       {} not asked: what it reads beside the columns is not stored", names.join(", "));
        }
        text += "\n";
        // a replay sends what everybody could be asked about, and what is another verdict
        let can_be_replayed = matches!(outcome, Outcome::Error | Outcome::Dlq);
        if can_be_replayed && unknown.is_empty() && now.is_some_and(|now| now != *outcome) {
            text += &format!("then   sluice replay {outcome} --where \"{}\"\n", self.condition());
        }
        Ok(text)
    }

    /// The record, as `--where` understands it.
    fn condition(&self) -> String {
        let At { partition, offset } = self.at;
        let topic = partition.topic.replace('\'', "''");
        match self.chain.config.source.kind {
            SourceKind::Kafka(_) => {
                format!("_topic = '{topic}' AND _partition = {} AND _offset = {offset}", partition.partition)
            }
            SourceKind::Files(_) | SourceKind::Stdin => format!("_topic = '{topic}' AND _offset = {offset}"),
        }
    }

    /// Rules, expectations and enrichers that read something which the tables of judged rows do not store.
    fn unknowable(&self, outcome: Outcome, row: &RecordBatch, entry: &Entry) -> Result<BTreeSet<Arc<str>>> {
        let written = entry.sinks.get(&outcome).map(|actions| &actions.schema);
        let layout = self.layout(outcome)?;
        let unasked = self.chain.parts.unasked(|path| layout.is_lost(path, row.schema_ref(), written));
        Ok(unasked.into_keys().collect())
    }

    fn layout(&self, outcome: Outcome) -> Result<Layout> {
        Ok(Layout::new(self.chain, tables::sink(&self.chain.config, outcome)?, outcome))
    }

    fn judge_again(&self, outcome: Outcome, row: &RecordBatch) -> Result<Judged> {
        let mut judge = self.chain.judge()?;
        match outcome {
            Outcome::Dlq => judge.judge(letters(row)?),
            Outcome::Valid | Outcome::Error | Outcome::Staging | Outcome::Derived(_) => {
                judge.judge_rows(self.layout(outcome)?.batch(row)?, Vec::new(), 1, 0)
            }
        }
    }

    /// These columns of a stored row by their names, to be shown; what the table lacks is null.
    fn batch_of(&self, row: &RecordBatch, schema: &SchemaRef) -> Result<Batch> {
        let bug = |e| Error::Host(format!("a stored row does not fit the schema: {e}"));
        let columns: Vec<ArrayRef> = schema
            .fields()
            .iter()
            .map(|field| match row.column_by_name(field.name()) {
                Some(column) => cast(column, field.data_type()).map_err(bug),
                None => Ok(new_null_array(field.data_type(), 1)),
            })
            .collect::<Result<_>>()?;
        let ordinal = row.column_by_name("_row").and_then(|c| c.as_primitive_opt::<Int32Type>());
        Ok(Batch {
            columns: RecordBatch::try_new(schema.clone(), columns).map_err(bug)?,
            origin: vec![0],
            ordinal: vec![ordinal.filter(|o| o.is_valid(0)).map_or(0, |o| o.value(0) as u32)],
            raw: Arc::new(letters(row)?),
            pipeline: columns::pipeline_namespace(&self.chain.config.name),
        })
    }

    /// For scripts.
    pub fn json(&self) -> Result<serde_json::Value> {
        let At { partition, offset } = self.at;
        let mut rows = Vec::new();
        for Found { outcome, place, row, superseded, .. } in self.found {
            let mut object = r#try::columns_json(row)?;
            values::mask_json(&mut object, &self.chain.config.mask);
            object["_outcome"] = outcome.as_str().into();
            object["_table"] = place.as_str().into();
            object["_entry"] = self.entry_of(row).0.into();
            object["_superseded"] = (*superseded).into();
            rows.push(object);
        }
        let (number, entry) = self.last();
        Ok(serde_json::json!({
            "topic": &*partition.topic, "partition": partition.partition, "offset": offset,
            "entry": number, "generation": entry.generation, "rows": rows,
        }))
    }
}

fn string(row: &RecordBatch, name: &str) -> Option<String> {
    let column = cast(row.column_by_name(name)?, &arrow::datatypes::DataType::Utf8).ok()?;
    column.is_valid(0).then(|| column.as_string::<i32>().value(0).to_owned())
}

fn binary(row: &RecordBatch, name: &str) -> Option<Vec<u8>> {
    let column = cast(row.column_by_name(name)?, &arrow::datatypes::DataType::Binary).ok()?;
    column.is_valid(0).then(|| column.as_binary::<i32>().value(0).to_vec())
}

/// `_batch` of a stored row.
pub(super) fn batch(row: &RecordBatch) -> Option<String> {
    string(row, "_batch")
}

/// A number of a stored row, 0 where there is none.
pub(super) fn int(row: &RecordBatch, name: &str) -> i32 {
    let column = row.column_by_name(name).and_then(|c| c.as_primitive_opt::<Int32Type>());
    column.filter(|column| column.is_valid(0)).map_or(0, |column| column.value(0))
}

/// `_findings` of a stored row.
fn stored_findings(row: &RecordBatch) -> Vec<Finding> {
    let Some(list) = row.column_by_name("_findings").and_then(|c| c.as_list_opt::<i32>()) else { return Vec::new() };
    if list.is_null(0) {
        return Vec::new();
    }
    let values = list.value(0);
    let Some(structs) = values.as_any().downcast_ref::<StructArray>() else { return Vec::new() };
    let text = |name: &str, i: usize| -> Option<String> {
        let column = cast(structs.column_by_name(name)?, &arrow::datatypes::DataType::Utf8).ok()?;
        column.is_valid(i).then(|| column.as_string::<i32>().value(i).to_owned())
    };
    (0..structs.len())
        .filter_map(|i| {
            Some(Finding {
                row: 0,
                rule: text("rule", i)?.into(),
                code: text("code", i)?.into(),
                severity: if text("severity", i)? == "warn" { Severity::Warn } else { Severity::Error },
                column: text("column", i).map(Into::into),
                detail: text("detail", i),
            })
        })
        .collect()
}
