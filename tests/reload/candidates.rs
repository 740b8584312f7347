//! Candidates that cannot be: each is refused in one sentence, and what judges goes on.

use sluice_host::telemetry::{names, scrape};

use crate::hostile::slow::slow;

use super::*;

const JUDGES: &str = "[rule.guest]\nwasm = \"guest.wasm\"\nlimits = { component = \"1MiB\" }";

/// Replaces the component as a build does: another file of its name.
fn replace(project: &Project, code: &[u8]) {
    project.write("new.wasm", code);
    std::fs::rename(project.path().join("new.wasm"), project.path().join("guest.wasm")).expect("a file of the project");
}

#[test]
fn a_candidate_that_cannot_be_is_refused_in_one_sentence_and_what_judges_goes_on() {
    let project = project(&toml(JUDGES));
    project.write("guest.wasm", versioned("1.0.0").component());
    let mut running = Running::of(&project);
    let line = running.until("metrics  http://");
    let url = line.split_whitespace().nth(1).expect("an address").to_owned();
    running.feed([1, 2]);
    running.until("error 2");
    let with = |change: &dyn Fn(&mut Guest)| {
        let mut guest = versioned("2.0.0");
        change(&mut guest);
        guest.component()
    };
    let case = |finds: &str| format!("{{\"row\": {{\"n\": 1}}, \"finds\": [{finds}]}}\n");
    let good = versioned("2.0.0").component();
    for (code, expected) in [
        (good[..good.len() / 2].to_vec(), "it is damaged"),
        (b"print('hi')".to_vec(), "it is not WebAssembly"),
        (fixtures::code("core-module"), "it is a core module and no component"),
        (fixtures::code("enricher-for-rule"), "it is an enricher where a rule was expected"),
        (fixtures::code("next-contract"), "this host speaks 0.1"),
        (fixtures::code("other-types"), "its types differ from the contract"),
        (fixtures::code("files"), "it imports wasi:filesystem/preopens@0.2.6: a rule gets no files"),
        (fixtures::code("too-large"), "and 1048576 are allowed"),
        (fixtures::with_cases(good.clone(), &(case("\"v2-0-0\"") + &case(""))), "fails 1 of its own 2 cases"),
        (fixtures::with_cases(good.clone(), "7\n"), "cases.ndjson:1: not a case"),
        (with(&|guest| guest.configure = "(unreachable)".into()), "configuring it failed (plugin-trap)"),
        (with(&|guest| guest.call = "(unreachable)".into()), "can judge none of the 2 records that it was tried on"),
        (with(&|guest| guest.call = "(loop $on (br $on)) (unreachable)".into()), "(plugin-timeout)"),
        (with(&|guest| guest.says.reads[0].0 = "gone".into()), "gone"),
    ] {
        replace(&project, &code);
        let line = running.until("refused");
        assert!(line.contains(expected) && line.contains(" goes on"), "expected `{expected}` in\n{line}");
    }
    let metrics = scrape::fetch(&url).expect("the run serves its metrics");
    assert_eq!(metrics.of(&names::RELOADS, &["refused"]), 14.0);
    running.feed([3]);
    running.until("error 1");
    // and a good one is taken, also after all that
    replace(&project, &fixtures::with_cases(good, &(case("\"v2-0-0\"") + &case("\"v2-0-0\""))));
    let line = running.until("reload");
    assert!(line.contains("guest 1.0.0 → 2.0.0 (") && line.contains("): 2 of 2 cases, generation "), "{line}");
    running.feed([4]);
    running.until("error 1");
    let metrics = scrape::fetch(&url).expect("the run serves its metrics");
    assert_eq!(metrics.of(&names::RELOADS, &["activated"]), 1.0);
    let known = metrics.all(&names::FINDINGS).iter().any(|series| series.label("code") == "v2-0-0");
    assert!(known, "the codes of the new version are there before they are found");
    running.end();
    assert_eq!(project.counted(), Counted { valid: 0, error: 4, dlq: 0, doubled: 0 });
    project.sluice(&["reconcile"]).expect(0);
}

/// Bytes of the component that takes long to compile; 20 MB by hand.
fn slow_bytes() -> usize {
    std::env::var("SLUICE_SLOW_BYTES").map_or(12_000_000, |n| n.parse().expect("a number of bytes"))
}

#[test]
fn a_candidate_that_takes_too_long_to_compile_is_refused_and_the_next_one_is_not_held_up() {
    let judges = JUDGES.replace("\"1MiB\"", "\"32MiB\", compile = \"250ms\"");
    let project = project(&toml(&judges));
    project.write("guest.wasm", versioned("1.0.0").component());
    let mut running = Running::of(&project);
    running.feed([1]);
    running.until("error 1");
    replace(&project, &slow(versioned("2.0.0").component(), slow_bytes()));
    let line = running.until("refused");
    assert!(line.contains("it is not compiled after 250ms; raise limits.compile if that is right"), "{line}");
    assert!(line.contains(" goes on"), "{line}");
    // by a generation that needs no compiler, since it is still at work
    project.write("old.wasm", versioned("1.0.0").component());
    project.write(
        "sluice.toml",
        toml(&format!("{judges}\n[expect]\nsmall = \"n < 5\"")).replace("guest.wasm", "old.wasm"),
    );
    let line = running.until("reload");
    assert!(line.contains("expect/small"), "{line}");
    running.end();
    project.sluice(&["reconcile"]).expect(0);
}

#[test]
fn records_are_judged_and_committed_while_a_candidate_compiles() {
    let judges = JUDGES.replace("1MiB", "32MiB");
    let project = project(&toml(&judges));
    project.write("guest.wasm", versioned("1.0.0").component());
    // what an earlier test compiled would be ready at once
    let mut run = project.command(&["run", "--json", "--workers", "1"]);
    run.env("XDG_CACHE_HOME", project.path().join("cache"));
    let mut running = Running::start(run);
    running.feed([0]);
    running.until("\"entry\"");
    let begun = Instant::now();
    replace(&project, &slow(versioned("2.0.0").component(), slow_bytes()));
    let (mut last, mut longest, mut entries, mut n) = (Instant::now(), Duration::ZERO, 0, 0);
    let line = loop {
        n += 1;
        running.feed([n]);
        match running.lines.recv_timeout(Duration::from_millis(20)) {
            Ok(line) if line.contains("\"entry\"") => {
                longest = longest.max(last.elapsed());
                (last, entries) = (Instant::now(), entries + 1);
            }
            Ok(line) if line.contains("reload") || line.contains("refused") => break line,
            Ok(_) | Err(_) => assert!(begun.elapsed().as_secs() < 300, "the candidate is ready at last"),
        }
    };
    let took = begun.elapsed();
    println!("{} bytes: {took:?} until it judges, {entries} entries meanwhile, {longest:?} between two", slow_bytes());
    assert!(line.contains("guest 1.0.0 → 2.0.0"), "{line}");
    assert!(entries > 0 && longest < took / 2, "{entries} entries, {longest:?} between two of them, {took:?} in all");
    running.end();
    project.sluice(&["reconcile"]).expect(0);
}
