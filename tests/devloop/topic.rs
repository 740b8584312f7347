//! `init` and `capture` on a real topic.

use crate::broker;
use crate::commands::edit;
use crate::project::{Project, VISITS_SQL, visits_toml};

/// A topic of visits that nobody described.
fn topic(records: &str) -> (Project, String, String) {
    let (brokers, topic) = (broker::shared().bootstrap(), broker::topic("undescribed"));
    let project = Project::new(&[]);
    let generate = ["generate", "visits", "--records", records, "--topic", &topic, "--brokers", &brokers];
    project.sluice(&[&generate[..], &["--partitions", "3", "--not-json", "0%"]].concat()).expect(0);
    (project, brokers, topic)
}

#[test]
fn a_topic_that_nobody_described_becomes_a_pipeline_that_runs() {
    let (project, brokers, topic) = topic("2000");
    let init = project.sluice(&["init", "--from", &topic, "--brokers", &brokers]).expect(0);
    assert!(init.contains(&format!("sampled  all 2,000 records of topic {topic}\n")), "{init}");
    assert!(init.contains("checked  the sample: 2,000 valid, 0 error, 0 dlq, 0 skipped\n"), "{init}");
    let run = project.sluice(&["run", "--until-end"]).expect(0);
    assert!(run.contains("2,000 consumed = 2,000 valid + 0 error + 0 dlq + 0 skipped"), "{run}");
    project.sluice(&["reconcile"]).expect(0);

    // an even sample of a part
    let part = ["init", "--from", &topic, "--brokers", &brokers, "--records", "90", "--dir", "part"];
    let part = project.sluice(&part).expect(0);
    assert!(part.contains(&format!("sampled  90 of 2,000 records of topic {topic}\n")), "{part}");
    let missing = project.sluice(&["init", "--from", &format!("{topic}x"), "--brokers", &brokers, "--dir", "missing"]);
    assert!(missing.code == Some(2) && missing.stderr.contains("did you mean"), "{}", missing.stderr);
}

#[test]
fn captured_records_are_cases_or_payloads_and_hide_what_is_masked() {
    let (project, brokers, topic) = topic("300");
    let kafka = format!("mask = {{ columns = [\"context.user.ip\"] }}\n[kafka]\nbrokers = \"{brokers}\"\n");
    project.write("sluice.toml", visits_toml(&format!("kafka = [\"{topic}\"]"), &kafka));
    project.write("visits.sql", VISITS_SQL);
    let said = project.sluice(&["capture", &topic, "-n", "20", "-o", "cases/visits.ndjson"]).expect(0);
    assert!(
        said.starts_with(&format!("20 records of {topic} → cases/visits.ndjson · masked: context.user.ip\n")),
        "{said}"
    );
    let lines = crate::commands::json_lines(&project.read("cases/visits.ndjson"));
    let partitions: std::collections::BTreeSet<i64> =
        lines.iter().map(|line| line["partition"].as_i64().unwrap()).collect();
    assert_eq!((lines.len(), partitions.len()), (20, 3));
    for line in &lines {
        let ip = &line["record"]["context"]["user"]["ip"];
        assert!(ip.is_null() || ip.as_str().unwrap().ends_with("***"), "{line}");
        assert!(
            line.get("key").is_none() && line["record"]["visit_id"].is_string() && line["timestamp"].is_string(),
            "{line}"
        );
    }
    // as cases they get what comes of them, and hold it
    project.sluice(&["test"]).expect(1);
    project.sluice(&["test", "--update"]).expect(0);
    assert!(project.sluice(&["test"]).expect(0).contains("20 of 20 cases"));
    let tried = project.sluice(&["try", "cases/visits.ndjson"]).expect(0);
    assert!(tried.contains("20 records: "), "{tried}");
    let refused = project.sluice(&["capture", &topic, "-o", "cases/visits.ndjson"]);
    assert!(refused.code == Some(2) && refused.stderr.contains("is there already"), "{}", refused.stderr);
    // a broken pipeline file must not lift its masks
    edit(&project, "sluice.toml", "mask = ", "maks = ");
    assert_eq!(project.sluice(&["capture", &topic, "--brokers", &brokers]).code, Some(2));

    // as payloads they are read wherever a file is
    let elsewhere = Project::new(&[]);
    let capture = ["capture", &topic, "--brokers", &brokers, "-n", "500", "--pick", "earliest", "-o", "sample.ndjson"];
    let said = elsewhere.sluice(&capture).expect(0);
    assert!(said.starts_with(&format!("300 records of {topic} → sample.ndjson\n")), "{said}");
    let init = elsewhere.sluice(&["init", "--from", "sample.ndjson"]).expect(0);
    assert!(init.contains("300 valid, 0 error, 0 dlq"), "{init}");
    assert!(elsewhere.sluice(&["try", "sample.ndjson"]).expect(0).contains("300 records: 300 valid"));
    let stdout =
        elsewhere.sluice(&["capture", &topic, "--brokers", &brokers, "-n", "3", "--format", "cases"]).expect(0);
    let lines = crate::commands::json_lines(&stdout);
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| line["key"].is_string()), "{stdout}");
}
