//! The ledger's folder: entries and checkpoints that are removed or damaged, while it is stopped and while it runs, and
//! the way out where there is no copy.

use std::sync::Arc;

use sluice_host::error::Error;
use sluice_host::store::Durable;

use super::{LEDGER, all_is_well, entry, more, of, refused, run_on, small};
use crate::project::{Counted, Project};

const FILES: usize = 6;

fn ran() -> Project {
    let project = small(FILES);
    project.sluice(&["run", "--until-end"]).expect(0);
    project
}

/// Cuts an entry off in the middle.
fn cut(project: &Project, n: u64) {
    let text = project.read(&entry(n));
    project.write(&entry(n), &text[..text.len() / 2]);
}

/// The commands that a message tells a user to type, in their order.
fn told(message: &str) -> Vec<String> {
    message.split('`').skip(1).step_by(2).filter(|code| code.contains(' ')).map(str::to_owned).collect()
}

#[test]
fn a_process_that_runs_notices_that_its_last_entry_is_gone() {
    let project = small(FILES);
    let run = run_on(&project, Arc::new(Durable::new()), |landed| {
        if landed == 5 {
            for n in 5.. {
                if std::fs::remove_file(project.path().join(entry(n))).is_err() {
                    break;
                }
            }
        }
    });
    let text = match run.expect_err("its last entry is gone") {
        Error::Diverged(text) => text,
        other => panic!("{other:?}"),
    };
    assert!(text.contains("is missing") && text.contains("Put it back"), "{text}");
    refused(&project, &["run", "--until-end"], &["the ledger ends at entry 4", "Put", "sluice adopt"]);
}

#[test]
fn a_second_process_refuses_what_the_first_cannot_see() {
    let project = small(FILES);
    let path = project.path().join(entry(4));
    let text = std::cell::RefCell::new(String::new());
    run_on(&project, Arc::new(Durable::new()), |landed| {
        if landed == 6 {
            *text.borrow_mut() = project.read(&entry(4));
            std::fs::remove_file(&path).unwrap();
            // this process has read it, and its sinks follow from what it keeps; another one begins at the first entry
            refused(&project, &["run", "--until-end"], &["ledger entry 4", "is missing"]);
        }
    })
    .unwrap();
    let report = project.sluice(&["reconcile"]).expect(1);
    assert!(report.contains("ledger entry 4") && report.contains("is missing"), "{report}");
    project.write(&entry(4), text.into_inner());
    all_is_well(&project, &of(FILES));
}

/// What a tired operator does who has no copy: reads the message, types what it says, reads the next.
#[test]
fn the_messages_lead_from_a_ledger_with_a_hole_to_a_pipeline_that_runs() {
    type Harm = fn(&Project);
    let harms: [(&str, Harm); 2] = [
        ("is missing", |project| std::fs::remove_file(project.path().join(entry(4))).unwrap()),
        ("is damaged", |project| cut(project, 4)),
    ];
    for (what, harm) in harms {
        // with rows for all tables in the last entry, and with rows for one: then the marks of the others lie behind
        for lags in [false, true] {
            let project = ran();
            if lags {
                project.write("in/z.ndjson", "{\"user_id\": \"z\"}\n");
                project.sluice(&["run", "--until-end"]).expect(0);
            }
            harm(&project);
            more(&project, FILES, 1);
            let report = project.sluice(&["reconcile"]).expect(1);
            assert!(report.contains("ledger entry 4") && report.contains(what), "{report}");
            let mut typed = Vec::new();
            let mut said = refused(&project, &["run", "--until-end"], &["ledger entry 4", what, "from a copy"]);
            let adopted = loop {
                let commands = told(&said);
                assert!(!commands.is_empty() && typed.len() < 8, "{typed:?} led nowhere: {said}");
                let mut last = None;
                for command in commands {
                    last = Some(shell(&project, &command));
                    typed.push(command);
                }
                match last.expect("at least one") {
                    Ok(screen) => break screen,
                    Err(error) => said = error,
                }
            };
            assert!(adopted.contains("numbering goes on at"), "{typed:?}: {adopted}");
            let last = if lags { "sluice adopt --accept-lag" } else { "sluice adopt" };
            assert_eq!(typed.last().map(String::as_str), Some(last), "{typed:?}");
            assert!(typed[0].starts_with("mv "), "{typed:?}");
            // nothing is read twice, and nothing was deleted
            let whole = of(FILES + 1);
            all_is_well(&project, &Counted { valid: whole.valid + u64::from(lags), ..whole });
        }
    }
}

/// Runs a command as a shell would, with `sluice` being ours; answers what it printed, or what it complained.
fn shell(project: &Project, command: &str) -> Result<String, String> {
    if let Some(arguments) = command.strip_prefix("sluice ") {
        let ran = project.sluice(&arguments.split(' ').collect::<Vec<_>>());
        return if ran.code == Some(0) { Ok(ran.stdout) } else { Err(ran.stderr) };
    }
    let output = std::process::Command::new("sh").args(["-c", command]).current_dir(project.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(said) } else { Err(said) }
}

#[test]
fn an_entry_that_is_damaged_is_refused_with_its_file_and_goes_on_when_put_back() {
    type Harm = fn(&str) -> String;
    let harms: [(&str, Harm); 4] = [
        ("is damaged: it is cut off", |text| text[..text.len() / 2].to_owned()),
        ("is damaged: it is cut off", |_| String::new()),
        ("is damaged: its digest does not fit", |text| text.replacen("\"to\":", "\"to\":1", 1)),
        ("is damaged", |_| "\0".repeat(4096)),
    ];
    for n in [3, 2 + FILES as u64] {
        for (what, harm) in harms {
            let project = ran();
            more(&project, FILES, 1);
            let text = project.read(&entry(n));
            project.write(&entry(n), harm(&text));
            let said = refused(&project, &["run", "--until-end"], &[&entry(n), what, "from a copy", "sluice adopt"]);
            let path = project.path().join(entry(n)).display().to_string();
            assert!(said.contains(&path), "the whole path, to be copied into a shell: {said}");
            let report = project.sluice(&["reconcile"]).expect(1);
            assert!(report.contains(&path) && report.contains(what), "{report}");
            project.write(&entry(n), text);
            all_is_well(&project, &of(FILES + 1));
        }
    }
}

/// A hundred entries and a few make a checkpoint. What is wrong with one costs time and nothing else; and what is wrong
/// with an entry before it is still found by the proof.
#[test]
fn checkpoints_that_are_damaged_are_passed_over_and_hide_nothing_from_the_proof() {
    let files = 100;
    let project = small(files);
    project.sluice(&["run", "--until-end"]).expect(0);
    let checkpoint = format!("lake/_sluice/visits/checkpoint/{:020}.json", 100);
    let text = project.read(&checkpoint);
    more(&project, files, 1);
    project.write(&checkpoint, &text[..text.len() / 2]);
    let ran = project.sluice(&["run", "--until-end"]);
    assert!(ran.stderr.contains("passed over"), "{}", ran.stderr);
    ran.expect(0);
    project.sluice(&["reconcile"]).expect(0);

    project.write(&checkpoint, text);
    let kept = project.read(&entry(50));
    std::fs::remove_file(project.path().join(entry(50))).unwrap();
    more(&project, files + 1, 1);
    // a start reads on from the checkpoint, and tables are beyond the entry: nothing is at stake
    project.sluice(&["run", "--until-end"]).expect(0);
    let report = project.sluice(&["reconcile"]).expect(1);
    assert!(report.contains("ledger entry 50") && report.contains("is missing"), "{report}");
    project.write(&entry(50), kept);
    all_is_well(&project, &of(files + 2));
}

/// The ledger is lost while the tables stay: refused, in the words of what happened, and the proof says the same.
#[test]
fn a_lost_ledger_is_told_from_a_table_that_nobody_knows() {
    for lost in ["lake/_sluice", LEDGER] {
        let project = ran();
        std::fs::remove_dir_all(project.path().join(lost)).unwrap();
        let words = ["valid (lake/visits) holds ledger entry 8", "lost", "Put it back from a copy", "sluice adopt"];
        refused(&project, &["run", "--until-end"], &words);
        assert!(!project.path().join(LEDGER).exists(), "nothing was written");
        let report = project.sluice(&["reconcile"]).expect(1);
        for word in words {
            assert!(report.contains(word), "{word}: {report}");
        }
        assert_eq!(project.counted(), of(FILES));
    }
}

/// An old copy of the state folder is put in place of the newer one: what tables hold beyond it is not written again.
#[test]
fn an_older_copy_of_the_ledger_is_refused() {
    let project = ran();
    for n in 7.. {
        if std::fs::remove_file(project.path().join(entry(n))).is_err() {
            break;
        }
    }
    more(&project, FILES, 1);
    refused(&project, &["run", "--until-end"], &["holds ledger entry 8", "the ledger ends at entry 6", "sluice adopt"]);
    assert_eq!(project.counted(), of(FILES));
    project.sluice(&["adopt"]).expect(0);
    all_is_well(&project, &Counted { ..of(FILES + 1) });
}
