//! `try --watch`: edit, and see again.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::commands::{edit, project};

#[test]
fn what_is_edited_is_seen_again() {
    let project = project();
    let mut child = project.start(&["try", "visits.ndjson", "--watch"], Stdio::null());
    let (line, lines) = channel();
    let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let other = line.clone();
    std::thread::spawn(move || BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|l| line.send(l)));
    std::thread::spawn(move || BufReader::new(stderr).lines().map_while(Result::ok).try_for_each(|l| other.send(l)));
    // everything up to the line that says that it waits again, and a line that must have come
    let shown = |wanted: &str| {
        let (mut all, mut waits) = (String::new(), false);
        while !(waits && all.contains(wanted)) {
            let line =
                lines.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| panic!("no `{wanted}` in\n{all}"));
            waits |= line.starts_with("watching ");
            all += &(line + "\n");
        }
        all
    };
    let first = shown("7 records: 2 valid, 2 error, 2 dlq, 1 skipped");
    assert!(first.contains("watching 3 files; ctrl-c ends"), "{first}");
    edit(&project, "sluice.toml", "user_id IS NOT NULL", "user_id IS NOT NULL AND user_id <> 'u1'");
    let second = shown("7 records: 1 valid, 3 error, 2 dlq, 1 skipped");
    assert!(second.starts_with("sluice.toml changed\n"), "{second}");
    // a mistake is shown, and mended elsewhere than where it is seen
    edit(&project, "visits.sql", "user_id STRING", "usr_id STRING");
    let mistake = shown("expectation `has-user` reads `user_id`, which the schema does not have");
    assert!(mistake.contains("visits.sql changed"), "{mistake}");
    edit(&project, "visits.sql", "usr_id STRING", "user_id STRING");
    shown("7 records: 1 valid, 3 error, 2 dlq, 1 skipped");
    project.write("visits.ndjson", "{\"user_id\": \"u5\"}\n");
    let last = shown("1 record: 1 valid, 0 error, 0 dlq, 0 skipped");
    assert!(last.contains("visits.ndjson changed"), "{last}");
    child.kill().unwrap();
    child.wait().unwrap();
}
