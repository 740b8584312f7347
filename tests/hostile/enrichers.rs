//! Calls of enrichers: what they add stands beside the right rows.

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use sluice_host::config::PluginConfig;
use sluice_host::plugin::Added;

use super::{batch, caller, config};
use crate::guests::{COPY, Guest, INT64, enricher};

fn enrich(guest: &Guest, config: &PluginConfig, rows: usize) -> Added {
    caller(guest, config).enrich(&batch(rows)).unwrap_or_else(|e| panic!("{e}"))
}

fn added(added: &Added) -> Vec<i64> {
    added.columns[0].as_primitive::<Int64Type>().values().to_vec()
}

#[test]
fn an_enricher_adds_one_value_a_row() {
    for call_rows in [4096, 8, 1] {
        let mut config = config();
        config.limits.call_rows = call_rows;
        let answer = enrich(&enricher(INT64, COPY), &config, 20);
        assert_eq!(added(&answer), (0..20).collect::<Vec<_>>());
        assert_eq!(answer.rows, (0..20).collect::<Vec<_>>());
        assert_eq!(answer.dead, []);
    }
}

#[test]
fn one_to_many_names_the_rows() {
    // every row twice: n of the pair is whatever stands there, what counts is `rows`
    let twice = "(local $i i32)
        (loop $next
            (i32.store (i32.add (i32.const 3000) (i32.mul (local.get $i) (i32.const 4))) (i32.div_u (local.get $i) (i32.const 2)))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $i) (i32.mul (local.get $rows) (i32.const 2)))))
        (drop (call $column (local.get $rows) (i32.const 3) (i32.const 0) (i32.mul (local.get $rows) (i32.const 16))
            (i32.const 0) (i32.const 0)))
        (call $origin (i32.const 3000) (i32.mul (local.get $rows) (i32.const 2)))
        (i32.const 2048)";
    let mut guest = enricher(INT64, twice);
    guest.says.one_to_many = true;
    let mut config = config();
    config.limits.call_rows = 2;
    let answer = enrich(&guest, &config, 5);
    assert_eq!(answer.rows, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
    assert_eq!(answer.columns[0].len(), 10);
}
