//! `init`: what it writes for records that nobody described holds for them.

use crate::project::{Counted, Project};

/// 5,000 visits, some of them damaged in every way that the generator knows, but of one kind per field.
fn visits(kinds: &str) -> Project {
    let project = Project::new(&[]);
    let generate = ["generate", "visits", "--records", "5000", "--damage", "4%", "--kinds", kinds];
    project.sluice(&[&generate[..], &["--out", "visits.ndjson", "--tally", "tally.json"]].concat()).expect(0);
    project
}

#[test]
fn what_is_written_for_a_file_takes_every_object_of_it_and_refuses_none() {
    let project = visits("no-user,no-page,login-exposed,wrong-type");
    let screen = project.sluice(&["init", "--from", "visits.ndjson"]).expect(0);
    assert!(screen.contains("sampled  all 5,000 records of visits.ndjson\n"), "{screen}");
    assert!(
        screen.contains("checked  the sample: 4,975 valid, 0 error, 25 dlq, 0 skipped (decode/not-json 25)"),
        "{screen}"
    );
    let checked = project.sluice(&["check"]).expect(0);
    assert!(checked.starts_with("visits · sluice.toml has no mistakes\n"), "{checked}");
    let run = project.sluice(&["run", "--until-end"]).expect(0);
    assert!(run.contains("5,000 consumed = 4,975 valid + 0 error + 25 dlq + 0 skipped"), "{run}");
    assert_eq!(project.counted(), Counted { valid: 4_975, error: 0, dlq: 25, doubled: 0 });

    // types and expectations with what they rest on
    let (sql, toml) = (project.read("visits.sql"), project.read("sluice.toml"));
    for evidence in
        ["event_time", "TIMESTAMP,", "-- all 4,975 records", "  context", "STRUCT<", "    user: ", "keep_private"]
    {
        assert!(sql.contains(evidence), "{evidence}:\n{sql}");
    }
    for evidence in [
        "event_time = \"event_time\"",
        "# a time in all 4,975 records",
        "has-visit_id = \"visit_id IS NOT NULL AND visit_id <> ''\"",
        "# all 4,975 records have it, never empty",
        "25 records were not-json: a dead letter, whatever the schema",
    ] {
        assert!(toml.contains(evidence), "{evidence}:\n{toml}");
    }

    let again = project.sluice(&["init", "--from", "visits.ndjson"]);
    assert_eq!(again.code, Some(2), "{}", again.stdout);
    assert!(again.stderr.contains("sluice.toml is there already"), "{}", again.stderr);
    project.sluice(&["init", "--from", "visits.ndjson", "--force", "--dir", "other"]).expect(0);
    // a folder of its own, from which the file is found all the same
    project.sluice(&["check", "other"]).expect(0);
    let tried = project.sluice(&["try", "visits.ndjson", "-c", "other/sluice.toml"]).expect(0);
    assert!(tried.ends_with("5,000 records: 4,975 valid, 0 error, 25 dlq, 0 skipped\n"), "{tried}");
}

#[test]
fn misfits_are_left_out_unless_they_are_tolerated() {
    let records = (0..200)
        .map(|n| if n == 40 { "{\"id\": 40}\n".to_owned() } else { format!("{{\"id\": \"u{n}\", \"n\": {n}}}\n") });
    let project = Project::new(&[("ids.ndjson", &records.collect::<String>())]);
    let strict = project.sluice(&["init", "--from", "ids.ndjson", "--dir", "strict"]).expect(0);
    assert!(strict.contains("1 column, 1 field left out") && strict.contains("200 valid, 0 error, 0 dlq"), "{strict}");
    let sql = project.read("strict/ids.sql");
    assert!(sql.contains("-- id: a text in 199, a number in 1 (first ids.ndjson:41); all 200 records"), "{sql}");

    let loose = project.sluice(&["init", "--from", "ids.ndjson", "--dir", "loose", "--misfits", "1%"]).expect(0);
    assert!(loose.contains("199 valid, 0 error, 1 dlq, 0 skipped (decode/wrong-type 1)"), "{loose}");
    let toml = project.read("loose/sluice.toml");
    assert!(toml.contains("has-id ") && toml.contains("# has-n = \"n IS NOT NULL\""), "{toml}");
    assert!(toml.contains("199 of 200 records have it: with this, 1 record would be refused"), "{toml}");
}

#[test]
fn a_compressed_file_is_sampled_evenly_and_bounded() {
    let project = Project::new(&[("in/readme.txt", "one folder a topic")]);
    project
        .sluice(&["generate", "visits", "--records", "3000", "--not-json", "0%", "--out", "in/visits.ndjson.zst"])
        .expect(0);
    let screen = project.sluice(&["init", "--from", "in/*.zst", "--records", "100", "--name", "visits"]).expect(0);
    assert!(screen.contains("of 3,000 records of in/*.zst"), "{screen}");
    let run = project.sluice(&["run", "--until-end"]).expect(0);
    assert!(run.contains("3,000 consumed = ") && run.contains(" + 0 dlq + 0 skipped"), "{run}");
}

#[test]
fn what_cannot_be_described_is_said_in_a_sentence() {
    let project = Project::new(&[("words.txt", "one\ntwo\n"), ("empty.ndjson", "")]);
    for (from, says) in [
        ("words.txt", "none of 2 records of words.txt is a JSON object (2 not-json): only JSON can be described"),
        ("empty.ndjson", "empty.ndjson holds no records: there is nothing to describe"),
        ("visits", "there is no file visits; if it is a topic, say where: --brokers localhost:9092"),
    ] {
        let mut command = project.command(&["init", "--from", from]);
        let ran = crate::project::Ran::of(command.env_remove("KAFKA_BROKERS").output().unwrap());
        assert_eq!(ran.code, Some(2), "{}", ran.stdout);
        assert_eq!(ran.stderr, format!("error: {says}\n"));
    }
    assert!(!project.path().join("sluice.toml").exists(), "nothing is written of what cannot be");
}
