//! `check` and `try`: what a pipeline says before it runs.

use super::{edit, json_lines, project};
use crate::guests::{Guest, NOTHING, rule};

#[test]
fn check_sums_up_a_pipeline_without_mistakes() {
    let screen = project().sluice(&["check"]).expect(0);
    assert!(screen.starts_with("visits · sluice.toml has no mistakes\n"), "{screen}");
    for line in [
        "source   files visits.ndjson",
        "expect   has-user, login-exposed, ad-tagged",
        "dlq      delta lake/visits_dlq",
    ] {
        assert!(screen.contains(line), "{screen}");
    }
}

#[test]
fn check_shows_every_mistake_at_its_place_with_a_suggestion() {
    let project = project();
    edit(&project, "sluice.toml", "user_id IS", "usr_id IS");
    edit(&project, "sluice.toml", "context.ad_id IS", "context.ad IS");
    edit(&project, "sluice.toml", "skip  =", "skipp =");
    let checked = project.sluice(&["check"]);
    expect_test::expect![[r#"
        error: unknown key `skipp` in `source`
         --> sluice.toml:7:1
          |
        7 | skipp = "_offset = 4"
          | ^^^^^ did you mean `skip`?

        error: expectation `has-user` reads `usr_id`, which the schema does not have
          --> sluice.toml:13:18
           |
        13 | has-user      = "usr_id IS NOT NULL"
           |                  ^^^^^^ visits.sql:2 declares `user_id STRING`

        error: expectation `ad-tagged` reads `context.ad`, which the schema does not have
          --> sluice.toml:15:62
           |
        15 | ad-tagged     = { sql = "context.referral <> 'Google Ads' OR context.ad IS NOT NULL", severity = "warn" }
           |                                                              ^^^^^^^^^^ visits.sql:3 declares `context.ad_id STRING`

        3 errors; nothing was read or written
    "#]]
    .assert_eq(&checked.stderr);
    assert_eq!((checked.code, &*checked.stdout), (Some(1), ""));

    let report: serde_json::Value = serde_json::from_str(&project.sluice(&["check", "--json"]).expect(1)).unwrap();
    assert_eq!(report["ok"], false);
    assert_eq!(report["mistakes"][1]["line"], 13);

    // the same sentences stop a run, before anything is there
    let run = project.sluice(&["run", "--until-end"]);
    assert_eq!((run.code, run.stderr), (Some(2), checked.stderr));
    assert!(!project.path().join("lake").exists());
}

/// One plain sentence at the place that names the component.
#[test]
fn check_refuses_what_is_no_plugin_in_one_sentence_at_its_place() {
    let wasi = Guest {
        call: format!("(call $foreign) {NOTHING}"),
        foreign: Some((
            "package wasi:filesystem@0.2.6; interface preopens { open: func(); }",
            "wasi:filesystem/preopens@0.2.6",
            "open",
        )),
        ..rule(NOTHING)
    };
    let mut other = rule(NOTHING);
    other.contract = other.contract.replace("@0.1.0", "@0.2.0");
    for (code, expected) in [
        (b"#!/bin/sh\necho no\n".to_vec(), "it is not WebAssembly: it begins with `#!/bin/sh\\necho n`"),
        (rule(NOTHING).core(), "it is a core module and no component; make one of it with `sluice build`"),
        (
            wasi.component(),
            "it imports wasi:filesystem/preopens@0.2.6: a rule gets no files; rebuild it with `sluice build`",
        ),
        (other.component(), "it imports sluice:plugin/host@0.2.0; this host speaks 0.1"),
        (rule(NOTHING).component(), "it reads `n`, which the schema does not have"),
    ] {
        let project = project();
        project.write("plugins/guest.wasm", &code);
        let toml = project.read("sluice.toml") + "\n[rule.guest]\nwasm = \"plugins/guest.wasm\"\n";
        project.write("sluice.toml", toml);
        let checked = project.sluice(&["check"]);
        assert_eq!(checked.code, Some(1), "{}", checked.stderr);
        let says: Vec<&str> = checked.stderr.lines().collect();
        let head = "error: plugin `guest` cannot be loaded from plugins/guest.wasm: ";
        assert!(says[0].starts_with(&format!("{head}{expected}")), "{}", checked.stderr);
        assert_eq!(says[1].trim(), "--> sluice.toml:23:8", "{}", checked.stderr);
        assert_eq!(says.last(), Some(&"1 error; nothing was read or written"));
        // and inspect says the same of the component alone
        if !expected.contains("schema") {
            let inspected = project.sluice(&["inspect", "plugin", "plugins/guest.wasm"]).expect(1);
            assert!(inspected.contains(&format!("problem   {expected}")), "{inspected}");
        }
    }
}

#[test]
fn try_shows_what_is_not_valid_and_why_and_writes_nothing() {
    let project = project();
    let screen = project.sluice(&["try", "visits.ndjson"]).expect(0);
    expect_test::expect![[r#"
        visits.ndjson:2           error
          ✗ expect/login-exposed      NOT keep_private OR context.user.login IS NULL  keep_private = true, context.user.login = "ml***"
        visits.ndjson:3           dlq  
          † decode/not-json   column 2: expected ident
        visits.ndjson:6           dlq  
          † decode/wrong-type   user_id: expected text, found number
        visits.ndjson:7           error
          ✗ expect/has-user           user_id IS NOT NULL               user_id = null
        7 records: 2 valid, 2 error, 2 dlq, 1 skipped
    "#]]
    .assert_eq(&screen);
    assert!(!project.path().join("lake").exists());

    let short = project.sluice(&["try", "visits.ndjson", "--limit", "1"]).expect(0);
    assert!(short.contains("\n… and 3 rows more; --limit shows them\n"), "{short}");
    assert_eq!(short.lines().count(), 4, "{short}");
}

#[test]
fn try_reads_standard_input_and_shows_a_single_record_whole() {
    let project = project();
    let one = project.feed(&["try"], b"{\"user_id\": \"u\", \"context\": {\"referral\": \"Google Ads\"}}\n").expect(0);
    assert!(one.contains("stdin:1                   valid\n  ! expect/ad-tagged"), "{one}");
    assert!(one.ends_with("1 record: 1 valid, 0 error, 0 dlq, 0 skipped\n"), "{one}");
    // no newline at the end, and none at all
    assert!(project.feed(&["try", "-"], b"{\"user_id\": null}").expect(0).contains("expect/has-user"));
    assert!(project.feed(&["try"], b"").expect(0).contains("0 records"));
}

#[test]
fn try_gives_scripts_one_object_a_row_with_masked_values() {
    let lines = json_lines(&project().sluice(&["try", "visits.ndjson", "--json"]).expect(0));
    let outcomes: Vec<_> =
        lines.iter().map(|l| (l["offset"].as_i64().unwrap(), l["outcome"].as_str().unwrap())).collect();
    assert_eq!(outcomes, [(1, "valid"), (2, "error"), (3, "dlq"), (5, "valid"), (6, "dlq"), (7, "error")]);
    assert_eq!(lines[1]["findings"][0]["code"], "login-exposed");
    assert_eq!(lines[1]["columns"]["context"]["user"]["login"], "ml***");
    assert_eq!(lines[1]["columns"]["keep_private"], true);
    assert_eq!((&lines[2]["stage"], &lines[2]["reason"]), (&"decode".into(), &"not-json".into()));
    assert_eq!(lines[3]["findings"][0]["severity"], "warn");
}
