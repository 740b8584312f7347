//! With provenance columns: every row's coordinates against the entry that it names.
//!
//! Rows are read once, some entries at a time (`_batch` is a UUIDv7, so its statistics tell which files to open): memory
//! follows the rows of those entries, not of the tables. That no coordinate is in two entries follows from the ledger's
//! ranges, so that coordinates are compared within an entry only.

use std::collections::{BTreeMap, HashMap};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use datafusion::prelude::{DataFrame, Expr, SessionConfig, SessionContext, col, lit};
use futures::TryStreamExt;
use uuid::Uuid;

use crate::error::{Doing, Error, Result};
use crate::ledger::operate::Seen;
use crate::outcome::Outcome;
use crate::record::TopicPartition;
use crate::schema::COORDINATES;

use super::account::{Account, Claim};
use super::{Kind, Report, Table, thousands};

const TYPES: [DataType; 6] =
    [DataType::Utf8, DataType::Utf8, DataType::Int32, DataType::Int64, DataType::Int32, DataType::Int32];

/// Rows whose coordinates are held at a time: 32 bytes each.
pub(super) const AT_A_TIME: u64 = 2_000_000;

/// One row's coordinates within its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Coordinate {
    /// index into the entry's ranges
    range: u32,
    offset: i64,
    row: i32,
    attempt: i32,
    outcome: Outcome,
}

/// What was found for one claim.
#[derive(Default)]
struct Found {
    rows: BTreeMap<Outcome, u64>,
    coordinates: Vec<Coordinate>,
}

/// Compares an account with the rows of the tables, of entries with `at_a_time` rows at a time.
pub(super) async fn compare(account: &Account, tables: &[&Table], at_a_time: u64, report: &mut Report) -> Result<()> {
    let session = SessionContext::new_with_config(SessionConfig::new().with_batch_size(65_536));
    let mut claims: Vec<&Claim> = account.claims.iter().collect();
    claims.sort_by_key(|claim| claim.id);
    let mut from: Option<Uuid> = None;
    let mut rest = &claims[..];
    loop {
        let mut rows = 0;
        let fits = |claim: &&Claim| {
            rows += claim.rows.values().sum::<u64>();
            rows <= at_a_time
        };
        // one entry at least, however many rows it has
        let take = rest.iter().copied().take_while(fits).count().max(1).min(rest.len());
        let (part, after) = rest.split_at(take);
        rest = after;
        let to = if rest.is_empty() { None } else { part.last().map(|claim| claim.id) };
        let mut found: Vec<Found> = part.iter().map(|_| Found::default()).collect();
        for table in tables {
            let mut reader = Reader::new(part, &mut found, table);
            reader.read(&session, within(from, to)).await?;
            reader.finish(account, report);
        }
        for (claim, found) in part.iter().zip(found) {
            judge(account, claim, found, tables, report);
        }
        if rest.is_empty() {
            return Ok(());
        }
        from = to;
    }
}

/// `_batch` in `(from, to]`; without an end also what is null.
fn within(from: Option<Uuid>, to: Option<Uuid>) -> Option<Expr> {
    let after = from.map(|id| col(r#""_batch""#).gt(lit(id.to_string())));
    match to {
        Some(id) => {
            let up_to = col(r#""_batch""#).lt_eq(lit(id.to_string()));
            Some(after.map_or(up_to.clone(), |after| after.and(up_to)))
        }
        None => after.map(|after| after.or(col(r#""_batch""#).is_null())),
    }
}

/// Reads one table for some claims.
struct Reader<'a> {
    claims: &'a [&'a Claim],
    by_id: HashMap<String, usize>,
    found: &'a mut [Found],
    table: &'a Table,
    /// rows of no entry, per `_batch`
    strangers: BTreeMap<String, u64>,
    /// rows outside the ranges of their entry, per claim: how many, and one of them
    outside: BTreeMap<usize, (u64, String)>,
}

impl<'a> Reader<'a> {
    fn new(claims: &'a [&'a Claim], found: &'a mut [Found], table: &'a Table) -> Self {
        let by_id = claims.iter().enumerate().map(|(i, claim)| (claim.id.to_string(), i)).collect();
        Reader { claims, by_id, found, table, strangers: BTreeMap::new(), outside: BTreeMap::new() }
    }

    async fn read(&mut self, session: &SessionContext, filter: Option<Expr>) -> Result<()> {
        let doing = || format!("cannot read the rows of {}", self.table.name());
        let provider = self.table.table.table_provider().await.doing(doing)?;
        self.table.table.update_datafusion_session(&session.state()).doing(doing)?;
        let mut rows = session.read_table(provider).doing(doing)?;
        if let Some(filter) = filter {
            rows = rows.filter(filter).doing(doing)?;
        }
        let columns: Vec<Expr> = COORDINATES.iter().map(|name| col(format!("\"{name}\""))).collect();
        let mut stream = rows.select(columns).doing(doing)?.execute_stream().await.doing(doing)?;
        let name = self.table.name();
        let doing = || format!("cannot read the rows of {name}");
        while let Some(batch) = stream.try_next().await.doing(doing)? {
            self.take(&batch).doing(doing)?;
        }
        Ok(())
    }

    fn take(&mut self, batch: &RecordBatch) -> std::result::Result<(), arrow::error::ArrowError> {
        let mut columns = Vec::with_capacity(COORDINATES.len());
        for (column, ty) in batch.columns().iter().zip(&TYPES) {
            columns.push(cast(column, ty)?);
        }
        let (ids, topics) = (columns[0].as_string::<i32>(), columns[1].as_string::<i32>());
        let (partitions, offsets) = (columns[2].as_primitive::<Int32Type>(), columns[3].as_primitive::<Int64Type>());
        let (rows, attempts) = (columns[4].as_primitive::<Int32Type>(), columns[5].as_primitive::<Int32Type>());
        let outcome = self.table.outcome;
        // neighbours nearly always share entry and partition
        let mut last: Option<(&str, usize)> = None;
        let mut range = 0;
        for i in 0..batch.num_rows() {
            let id = if ids.is_null(i) { "null" } else { ids.value(i) };
            let claim = match last {
                Some((known, claim)) if known == id => claim,
                _ => match self.by_id.get(id) {
                    Some(claim) => *claim,
                    None => {
                        *self.strangers.entry(id.to_owned()).or_default() += 1;
                        continue;
                    }
                },
            };
            last = Some((id, claim));
            let found = &mut self.found[claim];
            *found.rows.entry(outcome).or_default() += 1;
            let (topic, partition, offset) = (topics.value(i), partitions.value(i), offsets.value(i));
            let whole = columns[1..].iter().all(|column| column.is_valid(i));
            let ranges = &self.claims[claim].ranges;
            let holds = |at: usize| {
                let range = &ranges[at];
                *range.partition.topic == *topic
                    && range.partition.partition == partition
                    && (range.from..range.to).contains(&offset)
            };
            if !(range < ranges.len() && holds(range)) {
                range = (0..ranges.len()).find(|at| holds(*at)).unwrap_or(ranges.len());
            }
            if !whole || range == ranges.len() {
                let (count, _) = self
                    .outside
                    .entry(claim)
                    .or_insert_with(|| (0, format!("{topic}/{partition} offset {offset} row {}", rows.value(i))));
                *count += 1;
                continue;
            }
            found.coordinates.push(Coordinate {
                range: range as u32,
                offset,
                row: rows.value(i),
                attempt: attempts.value(i),
                outcome,
            });
        }
        Ok(())
    }

    fn finish(self, account: &Account, report: &mut Report) {
        let name = self.table.name();
        let mut before: BTreeMap<u64, u64> = BTreeMap::new();
        for (id, rows) in self.strangers {
            if let Some(n) = account.took_over(self.table.outcome, &id) {
                *before.entry(n).or_default() += rows;
                continue;
            }
            report.wrong(format!(
                "{name} has {} rows with _batch {id}, which is no entry of the ledger",
                thousands(rows)
            ));
            report.advise(Kind::Strange, &if id == "null" { "_batch IS NULL".into() } else { of_batch(&id) });
        }
        for (n, rows) in before {
            report.notes.push(format!(
                "{name} has {} rows from before entry {n} took it over, which cannot be proven",
                thousands(rows)
            ));
        }
        for (claim, (rows, first)) in self.outside {
            let n = self.claims[claim].number;
            report.wrong(format!(
                "entry {n}, {name}: {} rows lie outside the entry's offsets, the first at {first}",
                thousands(rows)
            ));
        }
    }
}

/// The condition that finds an entry's rows in a table.
fn of_batch(id: &str) -> String {
    format!("_batch = '{}'", id.replace('\'', "''"))
}

/// How many offsets are spelled out.
const NAMED: usize = 3;

/// `; in no table: visits/0 offset 7`, empty where every offset is in some table.
///
/// Where the entry skipped records, or the topic has holes, a missing offset may be one of those, and that is said.
fn absent(claim: &Claim, sorted: &[Coordinate]) -> String {
    if claim.is_replay {
        return String::new(); // most of what lies between its rows was never its business
    }
    let mut rest = sorted.iter().map(|c| (c.range, c.offset)).peekable();
    let mut named: Vec<(usize, i64)> = Vec::new();
    let (mut count, mut span) = (0_u64, 0_u64);
    for (at, range) in claim.ranges.iter().enumerate() {
        span += (range.to - range.from).unsigned_abs();
        for offset in range.from..range.to {
            let here = (at as u32, offset);
            let mut present = false;
            while let Some(next) = rest.next_if(|next| *next <= here) {
                present |= next == here;
            }
            if !present {
                count += 1;
                if named.len() < NAMED && named.first().is_none_or(|(first, _)| *first == at) {
                    named.push((at, offset));
                }
            }
        }
    }
    let Some((first, _)) = named.first() else { return String::new() };
    let which =
        if Some(span) == claim.records { "in no table" } else { "in no table, some of them skipped or never there" };
    let offsets: Vec<String> = named.iter().map(|(_, offset)| offset.to_string()).collect();
    let more = match count - named.len() as u64 {
        0 => String::new(),
        more => format!(" and {} more", thousands(more)),
    };
    let noun = if offsets.len() == 1 { "offset" } else { "offsets" };
    format!("; {which}: {} {noun} {}{more}", claim.ranges[*first].partition, offsets.join(", "))
}

fn judge(account: &Account, claim: &Claim, mut found: Found, tables: &[&Table], report: &mut Report) {
    let n = claim.number;
    found.coordinates.sort_unstable();
    // where a table cannot be looked at, or is not so far, its rows are not missing
    let all_seen = claim.rows.iter().filter(|(_, rows)| **rows > 0).all(|(outcome, _)| {
        let table = tables.iter().find(|table| table.outcome == *outcome);
        table.is_some_and(|table| {
            account.is_provable(claim, table) && account.is_applied(claim, table) && account.expired(claim, table) == 0
        })
    });
    let absent = || if all_seen && claim.records.is_some() { absent(claim, &found.coordinates) } else { String::new() };
    let mut whole = Outcome::ALL.iter().all(|o| tables.iter().any(|t| t.outcome == *o) || !claim.rows.contains_key(o));
    for table in tables {
        let (outcome, name) = (table.outcome, table.name());
        let expired = account.expired(claim, table);
        whole &= expired == 0;
        let counted = claim.rows.get(&outcome).copied().unwrap_or(0).saturating_sub(expired);
        let there = found.rows.get(&outcome).copied().unwrap_or(0);
        if !account.is_provable(claim, table) {
            whole = false;
        } else if account.is_applied(claim, table) {
            if counted != there {
                whole = false;
                let absent = if there < counted { absent() } else { String::new() };
                let (counted_as, gone) = match expired {
                    0 => (counted, String::new()),
                    _ => (counted + expired, format!(", although {} are gone by `keep`", thousands(expired))),
                };
                report.wrong(format!(
                    "entry {n} counts {} rows for {name}, which has {} of it{gone}{absent}",
                    thousands(counted_as),
                    thousands(there)
                ));
                if there < counted {
                    report.advise(Kind::Missing, &of_batch(&claim.id.to_string()));
                }
            }
        } else {
            whole &= counted == 0;
            if there > 0 {
                report.wrong(format!(
                    "{name} has {} rows of entry {n}, although its mark says that it ends at entry {}",
                    thousands(there),
                    table.mark
                ));
            }
        }
    }
    let mut twice = 0;
    let mut first = None;
    for pair in found.coordinates.windows(2) {
        let key = |c: &Coordinate| (c.range, c.offset, c.row, c.attempt);
        if key(&pair[0]) == key(&pair[1]) {
            twice += 1;
            first.get_or_insert((pair[0], pair[1]));
        }
    }
    if let Some((one, other)) = first {
        let partition = &claim.ranges[one.range as usize].partition;
        let tables = if one.outcome == other.outcome {
            format!("twice in {}", one.outcome)
        } else {
            format!("in {} and in {}", one.outcome, other.outcome)
        };
        let more = if twice > 1 { format!(", and {} more like it", thousands(twice - 1)) } else { String::new() };
        report.wrong(format!("entry {n}: {partition} offset {} row {} is {tables}{more}", one.offset, one.row));
        let rows = format!("{} AND _offset = {} AND _row = {}", of_batch(&claim.id.to_string()), one.offset, one.row);
        report.advise(Kind::Doubled, &rows);
    }
    let records = found.coordinates.chunk_by(|one, other| (one.range, one.offset) == (other.range, other.offset));
    let records = records.count() as u64;
    if let Some(judged) = claim.records
        && whole
        && twice == 0
        && records != judged
    {
        report.wrong(format!(
            "entry {n} judged {} records, but the tables have rows of {}{}",
            thousands(judged),
            thousands(records),
            absent()
        ));
    }
}

/// What the rows of all tables together say about each partition, for [`adopt`](crate::ledger::operate::adopt).
pub(super) async fn seen(tables: &[Table]) -> Result<BTreeMap<TopicPartition, Seen>> {
    if let Some(table) = tables.iter().find(|table| !table.provenance) {
        return Err(Error::Diverged(format!(
            "{} has no provenance columns, so that nobody knows how far its rows go: put the ledger back from a copy, or \
             name new tables",
            table.name()
        )));
    }
    let session = SessionContext::new();
    let doing = || "cannot read the positions in the tables".to_owned();
    let mut union: Option<DataFrame> = None;
    for table in tables {
        let provider = table.table.table_provider().await.doing(doing)?;
        table.table.update_datafusion_session(&session.state()).doing(doing)?;
        let columns = [("_topic", DataType::Utf8), ("_partition", DataType::Int32), ("_offset", DataType::Int64)];
        let columns = columns.map(|(name, ty)| datafusion::prelude::cast(col(format!("\"{name}\"")), ty).alias(name));
        let rows = session.read_table(provider).doing(doing)?.select(columns.to_vec()).doing(doing)?;
        union = Some(match union {
            Some(union) => union.union(rows).doing(doing)?,
            None => rows,
        });
    }
    let mut found = BTreeMap::new();
    let Some(union) = union else { return Ok(found) };
    session.register_table("seen", union.into_view()).doing(doing)?;
    let sql = "SELECT \"_topic\", \"_partition\", min(\"_offset\"), max(\"_offset\"), count(DISTINCT \"_offset\") \
               FROM seen GROUP BY 1, 2";
    for batch in session.sql(sql).await.doing(doing)?.collect().await.doing(doing)? {
        let topics = cast(batch.column(0), &DataType::Utf8).doing(doing)?;
        let (topics, partitions) = (topics.as_string::<i32>(), batch.column(1).as_primitive::<Int32Type>());
        let [first, last, offsets] = [2, 3, 4].map(|i| batch.column(i).as_primitive::<Int64Type>());
        for i in 0..batch.num_rows() {
            let partition = TopicPartition::new(topics.value(i), partitions.value(i));
            let offsets = offsets.value(i).unsigned_abs();
            found.insert(partition, Seen { first: first.value(i), last: last.value(i), offsets });
        }
    }
    Ok(found)
}
