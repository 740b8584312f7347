//! Auditors: components that decide over windows, from numbers and from the past.

use super::{counted, listed, project, reasons, reconciled, run, visit, window};

const LEARNED: &str = "window = \"10m\"\n[auditor.usual-volume]\nbuiltin = \"learned\"\n\
    config = { metric = \"count(*)\", history = 20, min_history = 10, tolerance = \"3 MAD\", floor = \"10%\" }\n";

/// So many visits in each window, one window after the other; `from` is the first.
fn windows(from: i64, rows: &[i64]) -> String {
    let window = |(n, rows): (i64, &i64)| {
        (0..*rows).map(move |row| visit(&format!("{n}-{row}"), n * 10 + row * 10 / rows, "u")).collect::<String>()
    };
    (from..).zip(rows).map(window).collect()
}

#[test]
fn a_learned_bound_notices_a_drop_of_sixty_percent_and_nothing_before() {
    let project = project(LEARNED);
    let usual: Vec<i64> = (0..19).map(|n| 100 + (n * 37) % 11 - 5).collect();
    project.write("in/a.ndjson", windows(0, &usual) + &windows(19, &[40]));
    let screen = run(&project);
    assert!(screen.contains("1 window held"), "{screen}");
    let listed = listed(&project);
    assert_eq!(listed.iter().filter(|(_, state, _)| state == "publish").count(), 19, "{listed:?}");
    assert_eq!(listed.last().cloned(), Some((window(190, 10), "hold".to_owned(), 40)));
    let story = project.sluice(&["audit", "show", &window(190, 10)]).expect(0);
    assert!(story.contains("usual-volume   count(*) is 40") && story.contains("in 19 past windows"), "{story}");
    // what a person released is usual from then on, and a process that begins anew has learned the same
    project.sluice(&["audit", "release", &window(190, 10)]).expect(0);
    project.write("in/b.ndjson", windows(20, &[101, 39]));
    run(&project);
    let rows: i64 = usual.iter().sum::<i64>() + 40 + 101;
    assert_eq!(counted(&project), [rows as u64, 0, 0, rows as u64 + 39]);
    reconciled(&project);
}

#[test]
fn an_auditor_may_reject_and_its_name_is_the_reason() {
    let project = project(
        &LEARNED.replace("\"10%\"", "\"10%\", min_history = 2, on_fail = \"reject\"").replace(", min_history = 10", ""),
    );
    project.write("in/a.ndjson", windows(0, &[20, 21, 22, 60]));
    run(&project);
    assert_eq!(counted(&project), [63, 60, 0, 123]);
    assert_eq!(reasons(&project), [("usual-volume".to_owned(), 60)].into());
    reconciled(&project);
}

#[test]
fn what_is_wrong_with_an_auditor_is_a_mistake_before_anything_runs() {
    let check = |from: &str, to: &str, expected: &str| {
        let ran = project(&LEARNED.replace(from, to)).sluice(&["check"]);
        let said = ran.stdout + &ran.stderr;
        assert_eq!(ran.code, Some(1), "{to}: {said}");
        assert!(said.contains(expected), "{to}: {said}");
    };
    check("3 MAD", "three", "`tolerance` is `three`");
    check("count(*)", "count(pages)", "cannot be planned");
    check("count(*)", "length(page)", "says something of each row");
    check("\"learned\"", "\"timely\"", "it is a rule where an auditor was expected");
    check("window = \"10m\"\n", "", "`audit.window` is missing");
}
