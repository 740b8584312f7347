//! Does a verdict depend on its row and on nothing else? The same rows are judged in several ways, which must all give the
//! same: bisecting, splitting, retrying and replaying rely on it.
//!
//! It cannot prove that a plugin keeps the contract; it finds the usual ways to break it: state that is kept between calls,
//! neighbours that are looked at, positions in the batch that are taken for something.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use serde_json::Value;

use super::rows::{Row, get, put};
use super::{Answer, Subject, pick};
use crate::columns;
use crate::error::Result;
use crate::plugin::Instances;
use crate::record::Batch;

/// Rows that are judged: each of them alone in a new instance, once.
pub const MOST: usize = 256;

/// What came of the comparison.
#[derive(Clone, Debug, Serialize)]
pub struct RowWise {
    /// rows that were judged
    pub rows: usize,
    /// in how many ways, beside each alone
    pub ways: usize,
    /// rows with two answers, each with the first way in which it differs
    pub differ: Vec<Difference>,
    /// columns that are asked for and on which no answer depends
    pub unused: Vec<String>,
}

/// A row that is judged in two ways.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// where the row was written
    pub row: String,
    /// what comes of it alone, in a new instance
    pub alone: String,
    /// how it was judged otherwise
    pub way: &'static str,
    /// and what came of that
    pub otherwise: String,
}

/// The order of rows, and how many go into a call.
struct Way {
    name: &'static str,
    order: Vec<usize>,
    piece: usize,
    instances: Instances,
    /// how often, with one instance: the last time counts
    times: usize,
}

/// Judges `rows` in all ways. Call it on a thread with enough stack, see [`super::on_guest_stack`].
pub fn compare(subject: &Subject, rows: &[Row<'_>]) -> Result<RowWise> {
    let rows = &rows[..rows.len().min(MOST)];
    let batch = subject.batch(rows)?;
    let mut alone = Vec::with_capacity(rows.len());
    for row in 0..rows.len() {
        let mut fresh = subject.caller().with_instances(Instances::Fresh);
        alone.extend(subject.answers(&mut fresh, &pick(&batch, &[row])?)?);
    }
    let ways = ways(rows.len());
    let mut differ: Vec<Option<Difference>> = vec![None; rows.len()];
    for way in &ways {
        for (row, answer) in judged(subject, &batch, way)? {
            if !answer.is_like(&alone[row]) && differ[row].is_none() {
                differ[row] = Some(Difference {
                    row: rows[row].place.clone(),
                    alone: alone[row].to_string(),
                    way: way.name,
                    otherwise: answer.to_string(),
                });
            }
        }
    }
    let differ: Vec<Difference> = differ.into_iter().flatten().collect();
    // where answers vary by themselves, nothing can be said about columns
    let unused = if differ.is_empty() { unused(subject, rows, &alone)? } else { Vec::new() };
    Ok(RowWise { rows: rows.len(), ways: ways.len(), differ, unused })
}

fn ways(rows: usize) -> Vec<Way> {
    let straight: Vec<usize> = (0..rows).collect();
    let backwards: Vec<usize> = (0..rows).rev().collect();
    let thrice: Vec<usize> = straight.iter().flat_map(|row| [*row; 3]).collect();
    let shuffled = |seed| {
        let mut order = straight.clone();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        order
    };
    let way =
        |name, order: &[usize], piece, instances, times| Way { name, order: order.to_vec(), piece, instances, times };
    use Instances::{Fresh, Reused};
    vec![
        way("with all others in one call", &straight, usize::MAX, Fresh, 1),
        way("by an instance that judged all rows before", &straight, usize::MAX, Reused, 2),
        way("one row a call by one instance", &straight, 1, Reused, 1),
        way("one row a call by one instance, last row first", &backwards, 1, Reused, 1),
        way("in calls of seven rows", &straight, 7, Fresh, 1),
        way("in calls of three rows by one instance, shuffled", &shuffled(1), 3, Reused, 1),
        way("shuffled, in one call", &shuffled(2), usize::MAX, Fresh, 1),
        way("shuffled otherwise, in one call", &shuffled(3), usize::MAX, Fresh, 1),
        way("three times in a row, in one call", &thrice, usize::MAX, Reused, 1),
    ]
}

fn judged(subject: &Subject, batch: &Batch, way: &Way) -> Result<Vec<(usize, Answer)>> {
    let mut caller = subject.caller().with_instances(way.instances);
    let mut answers = Vec::new();
    for _ in 0..way.times {
        answers.clear();
        for piece in way.order.chunks(way.piece.min(way.order.len()).max(1)) {
            let judged = subject.answers(&mut caller, &pick(batch, piece)?)?;
            answers.extend(piece.iter().copied().zip(judged));
        }
    }
    Ok(answers)
}

/// Columns without which, and with another row's values of which, every answer stays the same.
fn unused(subject: &Subject, rows: &[Row<'_>], alone: &[Answer]) -> Result<Vec<String>> {
    let mut unused = Vec::new();
    for request in subject.plugin.requests() {
        let path = request.path.as_str();
        let values: Vec<&Value> = rows.iter().map(|row| get(row.row, path)).collect();
        // what never varies shows nothing; some pseudo-columns are the record's own and cannot be exchanged
        let varies = values.iter().any(|value| *value != values[0]);
        if !varies || (columns::pseudo_type(path).is_some() && !matches!(path, "_key" | "_timestamp" | "_headers")) {
            continue;
        }
        let with = |value: &dyn Fn(usize) -> Value| -> Result<bool> {
            let mut changed: Vec<Value> = rows.iter().map(|row| row.row.clone()).collect();
            for (n, row) in changed.iter_mut().enumerate() {
                // a struct that is null stays null: its children have nowhere to be
                let parent = path.rsplit_once('.').map_or(Some(&*row), |(parent, _)| Some(get(row, parent)));
                if parent.is_some_and(Value::is_object) {
                    put(row, path, value(n));
                }
            }
            let changed: Vec<Row<'_>> =
                changed.iter().zip(rows).map(|(row, was)| Row { place: was.place.clone(), row }).collect();
            let answers = subject.answers(&mut subject.caller(), &subject.batch(&changed)?)?;
            Ok(answers.iter().zip(alone).all(|(answer, alone)| answer.is_like(alone)))
        };
        let same = with(&|_| Value::Null)? && with(&|n| values[(n + 1) % values.len()].clone())?;
        if same {
            unused.push(path.to_owned());
        }
    }
    Ok(unused)
}
