//! `reconcile`, `adopt`, `reset`: what holds when somebody's hand was in the tables or in the ledger.

use std::path::Path;

use super::{RECORDS, edit, project, project_that_ran};
use crate::peer;
use crate::project::{Counted, Project};

const LEDGER: &str = "lake/_sluice/visits/ledger";

/// Exit 1 and these words.
#[track_caller]
fn not_reconciled(project: &Project, words: &[&str]) {
    let report = project.sluice(&["reconcile"]).expect(1);
    assert!(report.starts_with("not reconciled: "), "{report}");
    for word in words {
        assert!(report.contains(word), "{word}: {report}");
    }
    let report: serde_json::Value = serde_json::from_str(&project.sluice(&["reconcile", "--json"]).expect(1)).unwrap();
    assert_eq!(report["ok"], false);
    assert!(report["discrepancies"].as_array().is_some_and(|list| !list.is_empty()), "{report}");
}

/// Exit 2, these words, and every file of the tables and the ledger as it was.
#[track_caller]
fn run_is_refused(project: &Project, words: &[&str]) {
    let before = files(&project.path().join("lake"));
    let ran = project.sluice(&["run", "--until-end"]);
    assert_eq!(ran.code, Some(2), "{}{}", ran.stdout, ran.stderr);
    for word in words {
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
    let after = files(&project.path().join("lake"));
    assert_eq!(before, after, "a run that is refused writes nothing");
}

/// Every file of tables and ledger.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            // what a pipeline is may be written down before anything is looked at; it is content by its hash
            if !path.ends_with("generations") && !path.ends_with("objects") {
                found.extend(files(&path));
            }
        } else {
            found.push(path.display().to_string());
        }
    }
    found.sort();
    found
}

#[test]
fn reconcile_proves_what_a_run_did() {
    let project = project_that_ran();
    assert_eq!(project.sluice(&["reconcile"]).expect(0), "reconciled: 7 consumed, no gap, no overlap\n");
    let report: serde_json::Value = serde_json::from_str(&project.sluice(&["reconcile", "--json"]).expect(0)).unwrap();
    assert_eq!(report["ok"], true);
    assert_eq!(report["counts"]["records"], 7);
    assert_eq!(report["counts"]["skipped"], 1);
    assert_eq!(report["counts"]["dead"], serde_json::json!({ "decode/not-json": 1, "decode/wrong-type": 1 }));
    // unknown: line 1, 2 and 7 have no referral
    assert_eq!(report["counts"]["unknown"], serde_json::json!({ "expect/ad-tagged": 3 }));
}

#[test]
fn reconcile_names_a_row_that_somebody_deleted() {
    let project = project_that_ran();
    peer::change(&project.path().join("lake/visits"), "table.delete('_offset = 5')");
    not_reconciled(&project, &["1 discrepancy", "valid (lake/visits)", "entry 3"]);
}

#[test]
fn reconcile_names_rows_that_somebody_added_again() {
    let project = project_that_ran();
    let again =
        "rows = deltalake.QueryBuilder().register('t', table).execute('SELECT * FROM t WHERE _offset = 7').read_all()
deltalake.write_deltalake(folder, rows, mode='append')";
    peer::change(&project.path().join("lake/visits_errors"), again);
    assert_eq!(project.counted(), Counted { valid: 2, error: 3, dlq: 2, doubled: 1 });
    not_reconciled(&project, &["error (lake/visits_errors)", "visits.ndjson/0", "7"]);
}

#[test]
fn reconcile_names_a_row_that_stands_in_two_tables() {
    let project = project_that_ran();
    // the valid table's schema is the error table's: a well-meant repair by hand
    let moved = "rows = deltalake.QueryBuilder().register('t', table).execute('SELECT * FROM t').read_all()
deltalake.write_deltalake(folder + '/../visits', rows, mode='append')";
    peer::change(&project.path().join("lake/visits_errors"), moved);
    assert_eq!(project.counted(), Counted { valid: 4, error: 2, dlq: 2, doubled: 2 });
    not_reconciled(&project, &["valid (lake/visits)"]);
}

#[test]
fn rows_of_others_do_not_disturb_a_run() {
    let project = project_that_ran();
    peer::change(&project.path().join("lake/visits_dlq"), "table.delete(\"reason = 'not-json'\")");
    project.write("more.ndjson", "{\"user_id\": \"u9\"}\n");
    edit(&project, "sluice.toml", "visits.ndjson", "*.ndjson");
    project.sluice(&["run", "--until-end"]).expect(0);
    assert_eq!(project.counted(), Counted { valid: 3, error: 2, dlq: 1, doubled: 0 });
}

#[test]
fn an_entry_that_was_removed_from_the_ledger_stops_everything() {
    for (entry, said) in [("2", "ledger entry 2"), ("3", "the ledger ends at entry 2")] {
        let project = project_that_ran();
        std::fs::remove_file(project.path().join(format!("{LEDGER}/0000000000000000000{entry}.json"))).unwrap();
        run_is_refused(&project, &[said, "Put it back", "sluice adopt"]);
        not_reconciled(&project, &[said]);
    }
}

#[test]
fn a_damaged_entry_is_refused_and_not_guessed() {
    let project = project_that_ran();
    let path = format!("{LEDGER}/00000000000000000003.json");
    edit(&project, &path, "\"valid\":2", "\"valid\":3");
    run_is_refused(&project, &["00000000000000000003.json"]);
    let report = project.sluice(&["reconcile"]);
    assert_ne!(report.code, Some(0), "{}", report.stdout);
}

#[test]
fn a_lost_ledger_is_refused_and_adopted_by_the_operators_word() {
    for lost in ["lake/_sluice", LEDGER] {
        let project = project_that_ran();
        std::fs::remove_dir_all(project.path().join(lost)).unwrap();
        if lost == LEDGER {
            run_is_refused(&project, &["valid (lake/visits) holds ledger entry 3", "sluice adopt"]);
        } else {
            let refused = project.sluice(&["run", "--until-end"]);
            assert_eq!(refused.code, Some(2), "{}", refused.stdout);
            assert_eq!(files(&project.path().join(LEDGER)), [""; 0]);
        }
        assert_eq!(project.counted(), Counted { valid: 2, error: 2, dlq: 2, doubled: 0 });
        let adopted = project.sluice(&["adopt"]).expect(0);
        assert!(
            adopted.contains("numbering goes on at 4") && adopted.contains("visits.ndjson/0: read on from 8"),
            "{adopted}"
        );

        project.write("more.ndjson", RECORDS);
        edit(&project, "sluice.toml", "visits.ndjson", "*.ndjson");
        let screen = project.sluice(&["run", "--until-end"]).expect(0);
        assert!(screen.contains("7 consumed"), "only the new file: {screen}");
        assert_eq!(project.counted(), Counted { valid: 4, error: 4, dlq: 4, doubled: 0 });
        let report = project.sluice(&["reconcile"]).expect(0);
        assert!(report.contains("2 rows from before entry 4"), "what cannot be proven is said: {report}");
    }
}

#[test]
fn a_table_that_was_removed_or_replaced_is_refused() {
    let project = project_that_ran();
    std::fs::rename(project.path().join("lake/visits"), project.path().join("away")).unwrap();
    run_is_refused(&project, &["valid (lake/visits) is not there", "the table was removed"]);
    not_reconciled(&project, &["valid", "is not there"]);

    // the same schema, another table
    peer::change(
        &project.path().join("away"),
        "import os
other = os.path.join(os.path.dirname(folder), 'lake', 'visits')
rows = deltalake.QueryBuilder().register('t', table).execute('SELECT * FROM t WHERE false').read_all()
deltalake.write_deltalake(other, rows)",
    );
    run_is_refused(&project, &["valid (lake/visits) is table ", "the table was replaced", "sluice adopt"]);
    not_reconciled(&project, &["the table was replaced"]);

    // the old one back, and all is well
    std::fs::remove_dir_all(project.path().join("lake/visits")).unwrap();
    std::fs::rename(project.path().join("away"), project.path().join("lake/visits")).unwrap();
    project.sluice(&["run", "--until-end"]).expect(0);
    project.sluice(&["reconcile"]).expect(0);
}

/// The way on after a table was removed for good: an empty one in its place, by the operator's word.
#[test]
fn a_table_that_was_removed_begins_anew_by_the_operators_word() {
    let project = project_that_ran();
    std::fs::remove_dir_all(project.path().join("lake/visits")).unwrap();
    run_is_refused(&project, &["sluice adopt"]);
    let adopted = project.sluice(&["adopt"]).expect(0);
    assert!(adopted.contains("valid (lake/visits)"), "{adopted}");
    project.write("more.ndjson", RECORDS);
    edit(&project, "sluice.toml", "visits.ndjson", "*.ndjson");
    project.sluice(&["run", "--until-end"]).expect(0);
    assert_eq!(project.counted(), Counted { valid: 2, error: 4, dlq: 4, doubled: 0 });
    project.sluice(&["reconcile"]).expect(0);
}

#[test]
fn reset_goes_back_by_a_word_and_forward_only_with_gap() {
    let project = project_that_ran();
    let forward = project.sluice(&["reset", "visits.ndjson/0=9"]);
    assert_eq!(forward.code, Some(2));
    assert!(forward.stderr.contains("would pass over 1 offset"), "{}", forward.stderr);
    let back = project.sluice(&["reset", "visits.ndjson/0=5"]).expect(0);
    assert!(back.contains("visits.ndjson/0: set back from 8 to 5"), "{back}");
    let screen = project.sluice(&["run", "--until-end"]).expect(0);
    assert!(screen.contains("3 consumed = 1 valid + 1 error + 1 dlq + 0 skipped"), "{screen}");
    assert_eq!(project.counted(), Counted { valid: 3, error: 3, dlq: 3, doubled: 3 });
    let report = project.sluice(&["reconcile"]).expect(0);
    assert!(report.contains("3 offsets read again"), "{report}");

    let gap = project.sluice(&["reset", "--gap", "visits.ndjson/0=9"]).expect(0);
    assert!(gap.starts_with("gap: entry "), "{gap}");
    assert!(project.sluice(&["reconcile"]).expect(0).contains("1 offsets given up"));
}

#[test]
fn the_state_of_another_pipeline_is_refused() {
    let project = project_that_ran();
    edit(&project, "sluice.toml", "name  = \"visits\"", "name  = \"orders\"");
    let refused = project.sluice(&["run", "--until-end"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stdout);
    assert!(refused.stderr.contains("visits") && refused.stderr.contains("orders"), "{}", refused.stderr);
}

#[test]
fn reconcile_before_the_first_run_has_nothing_against_nothing() {
    assert_eq!(project().sluice(&["reconcile"]).expect(0), "reconciled: 0 consumed, no gap, no overlap\n");
}
