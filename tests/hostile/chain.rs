//! Guests among the other judges of a pipeline: what dies is judged by nobody, and one record costs one record.

use std::fmt::Write;

use sluice_host::chain::{Chain, Judged};
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
    let (mut data, mut records) = (String::new(), Vec::new());
    for n in 0..20 {
        let start = data.len();
        let page = page.filter(|_| n == 13).map(|page| format!(r#","page":"{page}""#)).unwrap_or_default();
        write!(data, r#"{{"n":{n}{page}}}"#).unwrap();
        let value = Span { start: start as u32, len: (data.len() - start) as u32 };
        let (key, timestamp) = (Span::NULL, None);
        records.push(RawRecord { range: 0, offset: n, timestamp, key, value, headers: None, truncated_from: None });
    }
    let ranges = vec![Range { partition: TopicPartition::new("t", 0), from: 0, to: 20 }];
    let raw = RawBatch { ranges, records, data: data.into_bytes().into(), headers: vec![] };
    let chain = Chain::load(&project.path().join("sluice.toml"), None).unwrap_or_else(|e| panic!("{e}"));
    chain.judge().unwrap().judge(raw).unwrap_or_else(|e| panic!("{e}"))
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
