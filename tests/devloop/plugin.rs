//! `check` and `bench` on a plugin.

use crate::guests::{Guest, NOTHING, UTF8, rule};
use crate::project::Project;

/// Objects to row 0 of a call, as `$when` says.
fn first_row(when: &str) -> Guest {
    rule(&format!(
        "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (if (i32.eqz {when}) (then (return (i32.const 1024))))
        (call $finding (i32.const 3000) (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const -1))
        (call $answer (i32.const 3000) (i32.const 1))"
    ))
    .extra("(global $calls (mut i32) (i32.const 0))")
}

fn consent() -> Project {
    let project = Project::new(&[]);
    project.write("consent.wasm", sluice_host::component::demo_rule().unwrap());
    project.write("cases/consent.ndjson", include_str!("../../plugins/consent/cases/consent.ndjson"));
    project
}

#[test]
fn a_rule_that_keeps_the_contract_is_described_and_judged_in_many_ways() {
    let project = consent();
    let screen = project.sluice(&["check", "consent.wasm"]).expect(0);
    for line in [
        "consent 1.2.0 · rule · ",
        "  imports   sluice:plugin/",
        "  world     rule-plugin\n",
        "  loads     by contract ",
        "keep_private",
        " judged in 9 ways, alike\n",
    ] {
        assert!(screen.contains(line), "{line}\n{screen}");
    }
    assert!(!screen.contains("unused"), "{screen}");
    let json = project.sluice(&["check", ".", "--json", "--config", "{\"allow\": [\"mlind\"]}"]).expect(0);
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&report["ok"], &report["world"], &report["kind"]),
        (&true.into(), &"rule-plugin".into(), &"rule".into())
    );
    assert_eq!(report["row_wise"][0]["differ"], serde_json::json!([]));
    // a ready-made one, by its name
    assert!(project.sluice(&["check", "timely"]).expect(0).contains(" ways, alike"));
}

#[test]
fn a_verdict_that_depends_on_company_or_on_the_past_is_found() {
    for (guest, way) in [
        (first_row("(i32.gt_u (local.get $rows) (i32.const 1))"), "with all others in one call"),
        (
            Guest { says: reused(), ..first_row("(i32.gt_u (global.get $calls) (i32.const 1))") },
            "by an instance that judged all rows before",
        ),
    ] {
        let project = Project::new(&[(
            "cases/n.ndjson",
            "{\"row\": {\"n\": 5}, \"finds\": []}\n{\"row\": {\"n\": 6}, \"finds\": []}\n",
        )]);
        project.write("guest.wasm", guest.component());
        let screen = project.sluice(&["check", "guest.wasm"]).expect(1);
        assert!(screen.contains("row-wise  no: "), "{screen}");
        let difference = format!(
            "✗ cases/n.ndjson:1\n        alone, in a new instance: finds nothing\n        {way}: finds unlucky\n"
        );
        assert!(screen.contains(&difference), "{screen}");
    }
}

fn reused() -> crate::guests::Says {
    crate::guests::Says { reused: true, ..rule(NOTHING).says }
}

#[test]
fn columns_that_change_nothing_are_named_and_what_is_no_plugin_is_refused() {
    let mut guest = rule(NOTHING);
    guest.says.reads.push(("page".into(), UTF8, false));
    let project = Project::new(&[]);
    project.write("guest.wasm", guest.component());
    let screen = project.sluice(&["check", "."]).expect(0);
    assert!(screen.contains("  unused    n: no answer depends on it"), "{screen}");
    assert!(screen.contains("  unnamed   page: no code reads it"), "{screen}");

    project.write("core.wasm", rule(NOTHING).core());
    let refused = project.sluice(&["check", "core.wasm"]).expect(1);
    assert!(refused.contains("problem   it is a core module and no component"), "{refused}");
    let nothing = Project::new(&[]).sluice(&["check", "."]);
    assert_eq!(nothing.code, Some(2));
    assert!(
        nothing.stderr.contains("holds no pipeline file (sluice.toml), no plugin's source, no component"),
        "{}",
        nothing.stderr
    );
}

#[test]
fn what_a_plugin_costs_is_measured() {
    let project = consent();
    project.sluice(&["generate", "visits", "--records", "2000", "--out", "visits.ndjson"]).expect(0);
    let measure = |data: &[&str]| {
        let json = project.sluice(&[&["bench", "consent.wasm", "--time", "100ms", "--json"], data].concat()).expect(0);
        serde_json::from_str::<serde_json::Value>(&json).unwrap()
    };
    let measured = measure(&["--data", "visits.ndjson"]);
    for figure in [
        "compile_ns",
        "start_ns",
        "ns_per_row",
        "fresh_ns_per_row",
        "reused_ns_per_row",
        "fuel_per_row",
        "passed_per_row",
        "memory",
    ] {
        assert!(measured[figure].as_f64().is_some_and(|n| n > 0.0), "{figure}: {measured}");
    }
    assert_eq!(
        (&measured["plugin"], &measured["columns"], &measured["data"]),
        (&"consent".into(), &2.into(), &"visits.ndjson".into())
    );
    // 0.5 % are not JSON; of the others, 2 % are damaged, a quarter of them by a login
    assert_eq!(
        (&measured["rows"], &measured["left_out"], &measured["answers"]),
        (&1990.into(), &10.into(), &10.into())
    );
    // a mask of bits and a text: what a row passes is small
    assert!(measured["passed_per_row"].as_f64().unwrap() < 60.0, "{measured}");
    assert_eq!(measure(&[])["data"], "its cases");
    let screen = project.sluice(&["bench", "timely", "--time", "50ms"]).expect(0);
    for line in ["timely ", "  compile ", "  cold start ", "  a row ", "  fuel ", "  passed ", "  memory ", "(made up)"]
    {
        assert!(screen.contains(line), "{line}\n{screen}");
    }
}
