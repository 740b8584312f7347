//! What auditors say about a window.
//!
//! They see numbers: their own metrics over the window's rows, the findings in it, and the same metrics of past windows, as the
//! ledger remembers them. An auditor that fails has no opinion, and then a person should look.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::measure::{Measured, Rows};
use super::watermark::Due;
use crate::error::Result;
use crate::ledger::seal::digest;
use crate::ledger::{Decision, Extent, Fold, Objection, Verdict};
use crate::plugin::{Metric, Opinion, Plugin, Summary, Window};

/// Under what a metric is kept: values under another SQL are not compared.
fn key(auditor: &Plugin, metric: &Metric) -> String {
    format!("{}/{}@{}", auditor.name(), metric.name, &digest(metric.sql.as_bytes())[..6])
}

/// Computes what every auditor wants to know, also where none of them is asked: the next window is compared with it.
pub async fn measure(
    auditors: &[Arc<Plugin>],
    rows: &Rows<'_>,
    objections: &mut Vec<Objection>,
) -> Result<BTreeMap<String, Option<f64>>> {
    let mut metrics = BTreeMap::new();
    for auditor in auditors {
        for metric in auditor.metrics() {
            match rows.number(&metric.sql).await {
                Ok(value) => drop(metrics.insert(key(auditor, metric), value.filter(|value| value.is_finite()))),
                Err(error) => {
                    let detail = format!("{} cannot be computed: {error}", metric.sql);
                    objections.push(Objection { code: auditor.name().to_string(), detail });
                }
            }
        }
    }
    Ok(metrics)
}

/// Asks every auditor; the worst opinion counts. Those that object are named.
pub fn ask(
    auditors: &[Arc<Plugin>],
    due: &Due,
    measured: &Measured,
    metrics: &BTreeMap<String, Option<f64>>,
    findings: &[(String, u64)],
    fold: &Fold,
    objections: &mut Vec<Objection>,
) -> Result<Verdict> {
    let mut worst = Verdict::Publish;
    for auditor in auditors {
        let keys: Vec<String> = auditor.metrics().iter().map(|metric| key(auditor, metric)).collect();
        let Some(values) = values(&keys, metrics) else { continue };
        let window = Window {
            key: due.window.key(),
            span: span(&due.window),
            rows: measured.rows,
            rejected: measured.rejected + measured.duplicates,
            values,
        };
        let summary = Summary { window, findings: findings.to_vec(), history: history(&keys, auditor.history(), fold) };
        let (verdict, detail) = match auditor.audit(&summary)? {
            Ok(Opinion::Publish) => continue,
            Ok(Opinion::Hold(why)) => (Verdict::Hold, why),
            Ok(Opinion::Reject(why)) => (Verdict::Reject, why),
            Err(why) => (Verdict::Hold, format!("it failed, and has no opinion: {why}")),
        };
        worst = worst.max(verdict);
        objections.push(Objection { code: auditor.name().to_string(), detail });
    }
    Ok(worst)
}

/// The last windows that were measured under all these keys, oldest first.
fn history(keys: &[String], most: usize, fold: &Fold) -> Vec<(Window, bool)> {
    let mut past: Vec<_> = fold
        .past
        .iter()
        .rev()
        .filter_map(|past| {
            let Decision { window, rows, rejected, duplicates, metrics, .. } = &past.decision;
            let values = values(keys, metrics)?;
            let (key, span) = (window.key(), span(window));
            let published = past.decision.verdict == Verdict::Publish;
            Some((Window { key, span, rows: *rows, rejected: rejected + duplicates, values }, published))
        })
        .take(most)
        .collect();
    past.reverse();
    past
}

/// The values under all of some keys; `None` where one was not measured.
fn values(keys: &[String], metrics: &BTreeMap<String, Option<f64>>) -> Option<Vec<Option<f64>>> {
    keys.iter().map(|key| metrics.get(key).copied()).collect()
}

fn span(window: &Extent) -> Option<(i64, i64)> {
    match window {
        Extent::Time { from, to } => Some((*from, *to)),
        Extent::Rows { .. } | Extent::File { .. } => None,
    }
}
