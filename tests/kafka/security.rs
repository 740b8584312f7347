//! SASL over TLS: who may come in, who may not, and what is said then.

use std::time::{Duration, Instant};

use super::live::{create, put};
use crate::broker::{self, ALICE, BOB};
use crate::project::{Counted, Project, Ran, VISITS_SQL, visits_toml};

/// The password is in the environment under this name.
const PASSWORD: &str = "KAFKA_PASSWORD";
const WRONG: &str = "not-the-password";

/// A topic of 50 visits.
fn topic() -> String {
    let topic = broker::topic("secret");
    create(&topic, 2, &[]);
    put(&topic, 0, 30);
    put(&topic, 1, 20);
    topic
}

/// A pipeline over a topic, these lines in `[kafka]`.
fn project(topic: &str, kafka: &str) -> Project {
    let toml = visits_toml(
        &format!("kafka = [\"{topic}\"]\ngroup = \"{}\"", broker::topic("group")),
        &format!("[kafka]\n{kafka}\n"),
    );
    Project::new(&[("sluice.toml", &toml), ("visits.sql", VISITS_SQL)])
}

/// The connection by the listener that asks who one is.
fn secure(user: &str, more: &str) -> String {
    let (broker, ca) = (broker::shared(), broker::shared().ca());
    format!(
        "brokers = \"{}\"\nsecurity = \"sasl_ssl\"\nusername = \"{user}\"\npassword = \"${{{PASSWORD}}}\"\nca = {ca:?}\n{more}",
        broker.secure_bootstrap()
    )
}

fn run(project: &Project, password: &str, arguments: &[&str]) -> Ran {
    project.sluice_with((PASSWORD, password), arguments)
}

/// Exit 2 within seconds, one sentence, all of these words in it, and no password anywhere.
#[track_caller]
fn refused(project: &Project, password: &str, words: &[&str]) {
    let begun = Instant::now();
    let ran = run(project, password, &["run", "--until-end"]);
    assert_eq!(ran.code, Some(2), "{}{}", ran.stdout, ran.stderr);
    assert!(begun.elapsed() < Duration::from_secs(30), "it took {:?}", begun.elapsed());
    let sentence: Vec<_> = ran.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(sentence.len(), 1, "{}", ran.stderr);
    for word in words {
        assert!(sentence[0].contains(word), "{word}: {}", ran.stderr);
    }
    assert!(ran.stderr.lines().count() <= 3, "the same over and over:\n{}", ran.stderr);
    for secret in [ALICE.1, BOB.1, WRONG] {
        assert!(!ran.stderr.contains(secret) && !ran.stdout.contains(secret), "{}{}", ran.stdout, ran.stderr);
    }
}

#[test]
fn scram_and_plain_over_tls_end_in_tables() {
    let topic = topic();
    let from_properties = "[kafka.properties]\n\"sasl.mechanism\" = \"SCRAM-SHA-256\"";
    for ((user, password), more) in
        [(ALICE, "mechanism = \"SCRAM-SHA-512\""), (ALICE, from_properties), (BOB, "mechanism = \"PLAIN\""), (BOB, "")]
    {
        let project = project(&topic, &secure(user, more));
        let screen = run(&project, password, &["run", "--until-end"]).expect(0);
        assert!(screen.contains("50 consumed = 50 valid + 0 error + 0 dlq"), "{more}: {screen}");
        if !more.is_empty() {
            continue; // another reader looks at one of them
        }
        assert_eq!(project.counted(), Counted { valid: 50, error: 0, dlq: 0, doubled: 0 });
        run(&project, password, &["reconcile"]).expect(0);
    }
}

#[test]
fn a_wrong_password_says_so_and_stops() {
    let topic = topic();
    for (user, mechanism) in
        [(ALICE.0, "SCRAM-SHA-512"), (ALICE.0, "SCRAM-SHA-256"), (BOB.0, "PLAIN"), ("eve", "PLAIN")]
    {
        let project = project(&topic, &secure(user, &format!("mechanism = \"{mechanism}\"")));
        let words =
            ["refused to let sluice in (check username, password", "SASL authentication error: Authentication failed"];
        refused(&project, WRONG, &words);
    }
}

#[test]
fn a_password_is_in_no_log_even_when_everything_is_logged() {
    let topic = topic();
    for ((user, password), given) in [(ALICE, ALICE.1), (BOB, BOB.1), (ALICE, WRONG), (BOB, WRONG)] {
        let mechanism = if user == BOB.0 { "PLAIN" } else { "SCRAM-SHA-512" };
        let more = format!("mechanism = \"{mechanism}\"\n[kafka.properties]\ndebug = \"all\"");
        let project = project(&topic, &secure(user, &more));
        let ran = run(&project, given, &["--log", "trace", "run", "--until-end"]);
        assert_eq!(ran.code, Some(if password == given { 0 } else { 2 }), "{}", ran.stdout);
        assert!(ran.stderr.contains("SASL"), "librdkafka's own log is there: {}", ran.stderr);
        assert!(!ran.stderr.contains(given) && !ran.stdout.contains(given), "{given} was logged");
    }
}

#[test]
fn a_certificate_that_cannot_be_trusted_says_so_and_stops() {
    let topic = topic();
    let other = tempfile::tempdir().unwrap();
    let made = std::process::Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/broker.sh"))
        .arg("certificate")
        .arg(other.path())
        .status();
    assert!(made.expect("tests/broker.sh can be run").success());
    let scram = secure(ALICE.0, "mechanism = \"SCRAM-SHA-512\"");
    let ca = format!("ca = {:?}", broker::shared().ca());
    assert!(scram.contains(&ca), "{scram}");
    let verify = ["no secure connection to", "certificate verify failed", "certificates in [kafka]"];
    let other_ca = scram.replace(&ca, &format!("ca = {:?}", other.path().join("ca.pem")));
    refused(&project(&topic, &other_ca), ALICE.1, &verify);
    refused(&project(&topic, &scram.replace(&ca, "")), ALICE.1, &verify);
    let none = scram.replace(&ca, "ca = \"no-such.pem\"");
    refused(&project(&topic, &none), ALICE.1, &["`ca` in [kafka] names", "no-such.pem", "No such file"]);
    let sql = scram.replace(&ca, "ca = \"visits.sql\"");
    refused(&project(&topic, &sql), ALICE.1, &["`ca` in [kafka] names", "visits.sql", "not PEM"]);
}

#[test]
fn listeners_that_speak_another_protocol_are_recognised() {
    let topic = topic();
    let broker = broker::shared();
    let plaintext = format!("brokers = \"{}\"", broker.secure_bootstrap());
    refused(
        &project(&topic, &plaintext),
        "",
        &["check brokers and security in [kafka]", "speaks TLS answers like this"],
    );
    let tls = secure(ALICE.0, "").replace(&broker.secure_bootstrap(), &broker.bootstrap());
    refused(&project(&topic, &tls), ALICE.1, &["security in [kafka]", "connecting to a PLAINTEXT broker listener?"]);
}
