//! Guests among the other judges of a pipeline: what dies is judged by nobody, and one record costs one record.

use std::fmt::Write;

use sluice_host::chain::{Chain, Judged, Waiting};
use sluice_host::outcome::{Outcome, Reason};
use sluice_host::record::{Range, RawBatch, RawRecord, Span, TopicPartition};

use crate::guests::{Guest, INT64, at_thirteen, enricher};
use crate::project::Project;

/// A pipeline over `n` and `page` with these sections, and this guest as `guest.wasm`.
fn project(guest: &Guest, sections: &str) -> Project {
    let toml = format!(
        "name = \"p\"\nstate = \"state\"\n[source]\nfiles = [\"in.ndjson\"]\n[schema]\nfile = \"s.sql\"\n{sections}\n\
         [sink]\nvalid = {{ delta = \"valid\" }}\nerror = {{ delta = \"error\" }}\ndlq = {{ delta = \"dlq\" }}\n"
    );
    let project = Project::new(&[("sluice.toml", &toml), ("s.sql", "CREATE TABLE s (n BIGINT, page STRING)")]);
    project.write("guest.wasm", guest.component());
    project
}

/// Twenty records whose `n` counts from 0; number 13 may have a `page`.
fn judge(project: &Project, page: Option<&str>) -> Judged {
    chain(project).judge().unwrap().judge(records(|n| page.filter(|_| n == 13))).unwrap_or_else(|e| panic!("{e}"))
}

fn chain(project: &Project) -> Chain {
    Chain::load(&project.path().join("sluice.toml"), None).unwrap_or_else(|e| panic!("{e}"))
}

fn records<'a>(page: impl Fn(i64) -> Option<&'a str>) -> RawBatch {
    let (mut data, mut records) = (String::new(), Vec::new());
    for n in 0..20 {
        let start = data.len();
        let page = page(n).map(|page| format!(r#","page":"{page}""#)).unwrap_or_default();
        write!(data, r#"{{"n":{n}{page}}}"#).unwrap();
        let value = Span { start: start as u32, len: (data.len() - start) as u32 };
        let (key, timestamp) = (Span::NULL, None);
        records.push(RawRecord { range: 0, offset: n, timestamp, key, value, headers: None, truncated_from: None });
    }
    let ranges = vec![Range { partition: TopicPartition::new("t", 0), from: 0, to: 20 }];
    RawBatch { ranges, records, data: data.into_bytes().into(), headers: vec![] }
}

#[test]
fn a_row_that_a_rule_could_not_judge_has_no_unknown_verdict() {
    let sections = "[rule.guest]\nwasm = \"guest.wasm\"\n[expect]\n\
                    absent = \"page <> 'a'\"\nlarge = \"n > 1\"\nmany = \"n > 2\"\n";
    let judged = judge(&project(&at_thirteen("(unreachable)"), sections), None);
    assert_eq!(judged.dead.iter().map(|dead| dead.record).collect::<Vec<_>>(), [13]);
    assert_eq!(judged.counts.unknown.get("expect/absent"), Some(&19), "{:?}", judged.counts.unknown);
    let found: Vec<_> = judged.findings.iter().map(|f| (f.row, &*f.code)).collect();
    assert_eq!(found, [(0, "large"), (0, "many"), (1, "large"), (1, "many"), (2, "many")], "by row");
}

#[test]
fn a_record_that_is_multiplied_beyond_all_bounds_costs_that_record() {
    // a call has one row; that of number 13 becomes 300
    let call = "(local $many i32)
        (local.set $many (i32.const 1))
        (if (i32.ne (call $thirteen (local.get $rows) (local.get $columns)) (i32.const -1))
            (then (local.set $many (i32.const 300))))
        (drop (memory.grow (i32.const 8)))
        (drop (call $column (local.get $rows) (i32.const 3) (i32.const 200000)
            (i32.mul (local.get $many) (i32.const 8)) (i32.const 0) (i32.const 0)))
        (call $origin (i32.const 200000) (local.get $many))
        (i32.const 2048)";
    let mut guest = enricher(INT64, call);
    guest.says.one_to_many = true;
    let project = project(&guest, "[[enrich]]\nname = \"guest\"\nwasm = \"guest.wasm\"\nlimits = { call_rows = 1 }\n");

    let judged = judge(&project, Some("short"));
    assert_eq!((judged.batch.len(), judged.dead.len()), (319, 0));
    assert_eq!(judged.batch.ordinal[13..313], (0..300).collect::<Vec<_>>());

    let judged = judge(&project, Some(&"x".repeat(900_000)));
    let dead: Vec<_> = judged.dead.iter().map(|d| (d.record, d.ordinal, d.reason)).collect();
    assert_eq!(dead, [(13, 0, Reason::PluginOutput)]);
    assert!(judged.dead[0].detail.starts_with("it makes 300 rows of this one, 540"), "{}", judged.dead[0].detail);
    assert_eq!((judged.batch.len(), judged.counts.outcomes[&Outcome::Dlq]), (19, 1));
}

#[test]
fn a_batch_that_grows_too_large_is_judged_in_pieces_and_nobody_dies_of_it() {
    // every row becomes 300
    let call = "(drop (memory.grow (i32.const 8)))
        (drop (call $column (local.get $rows) (i32.const 3) (i32.const 200000) (i32.const 2400) (i32.const 0) (i32.const 0)))
        (call $origin (i32.const 200000) (i32.const 300))
        (i32.const 2048)";
    let mut guest = enricher(INT64, call);
    guest.says.one_to_many = true;
    let section = "[[enrich]]\nname = \"guest\"\nwasm = \"guest.wasm\"\nlimits = { call_rows = 1 }\n";
    let project = project(&guest, section);
    let page = "x".repeat(10_000); // twice for each of 6,000 rows, in the column and in the payload: 120 MB
    let mut judge = chain(&project).judge().unwrap();
    let mut waiting = Waiting::from(records(|_| Some(&page)));
    let mut seen = Vec::new();
    let mut pieces = 0;
    while let Some(judged) = judge.next(&mut waiting).unwrap() {
        assert_eq!((judged.dead.len(), judged.counts.rows), (0, judged.batch.len() as u64));
        assert_eq!(judged.batch.len() as u64, judged.counts.records * 300);
        let offsets = judged.batch.origin.iter().map(|record| judged.batch.raw.records[*record as usize].offset);
        seen.extend(offsets.zip(judged.batch.ordinal.iter().copied()));
        pieces += 1;
    }
    assert!(pieces > 3, "{pieces} pieces");
    let expected: Vec<_> = (0..20).flat_map(|offset| (0..300).map(move |ordinal| (offset, ordinal))).collect();
    assert_eq!(seen, expected, "each row once, in order");
}
