//! Generations over time: files that change while a pipeline runs, candidates that are refused, and going back.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::guests::{Guest, rule};
use crate::hostile::fixtures;
use crate::project::{Counted, Project};

mod candidates;
pub mod swaps;

/// A pipeline that reads its standard input: it goes on for as long as a test wants.
pub fn toml(judges: &str) -> String {
    format!(
        r#"name  = "t"
state = "lake/_sluice/t"
[source]
stdin = true
[schema]
file = "t.sql"
{judges}
[commit]
every = "200ms"
[sink]
valid = {{ delta = "lake/visits" }}
error = {{ delta = "lake/visits_errors" }}
dlq   = {{ delta = "lake/visits_dlq" }}
"#
    )
}

fn expect(sql: &str) -> String {
    toml(&format!("[expect]\nsmall = \"{sql}\""))
}

pub fn project(toml: &str) -> Project {
    Project::new(&[("sluice.toml", toml), ("t.sql", "CREATE TABLE t (n BIGINT, note STRING)")])
}

/// A rule that finds its one code on every row: `version` is its version, and part of the code.
pub fn versioned(version: &str) -> Guest {
    let mut guest = rule(
        "(local $i i32) (local $at i32)
        (local.set $at (call $bump (i32.mul (local.get $rows) (i32.const 24))))
        (loop $next
          (if (i32.ge_u (local.get $i) (local.get $rows))
            (then (return (call $answer (local.get $at) (local.get $rows)))))
          (call $finding (i32.add (local.get $at) (i32.mul (local.get $i) (i32.const 24)))
            (local.get $i) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const -1))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br $next))
        (unreachable)",
    );
    guest.says.version = version.into();
    guest.says.codes = vec![(format!("v{}", version.replace('.', "-")), vec![0])];
    guest
}

/// A run in the background, its standard input and its lines.
pub struct Running {
    child: Child,
    input: Option<std::process::ChildStdin>,
    pub lines: Receiver<String>,
}

impl Running {
    pub fn of(project: &Project) -> Running {
        Running::with(project, &["run"])
    }

    pub fn with(project: &Project, arguments: &[&str]) -> Running {
        Running::start(project.command(arguments))
    }

    pub fn start(mut command: std::process::Command) -> Running {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running::child(command.spawn().expect("sluice starts"))
    }

    /// Of a process that was started.
    pub fn child(mut child: Child) -> Running {
        let (line, lines) = channel();
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let other = line.clone();
        std::thread::spawn(move || BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|l| line.send(l)));
        std::thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).try_for_each(|l| other.send(l))
        });
        Running { input: child.stdin.take(), child, lines }
    }

    /// Records with these numbers.
    pub fn feed(&mut self, numbers: impl IntoIterator<Item = i64>) {
        self.put(&numbers.into_iter().map(|n| format!("{{\"n\": {n}}}\n")).collect::<String>());
    }

    /// These lines.
    pub fn put(&mut self, lines: &str) {
        self.input.as_mut().expect("it was not closed").write_all(lines.as_bytes()).expect("the run reads its input");
    }

    /// The next line that has `text` in it; those before it are gone.
    #[track_caller]
    pub fn until(&self, text: &str) -> String {
        let mut seen = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(120)) {
            if line.contains(text) {
                return line;
            }
            seen.push(line);
        }
        panic!("no line with `{text}` among\n{}", seen.join("\n"));
    }

    pub fn stop(mut self) {
        // SAFETY: kill takes no pointers, and the child is ours until `wait` below
        unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        assert!(self.child.wait().expect("the run ends").success());
    }

    /// Ends its input, and takes the lines that are left.
    #[track_caller]
    pub fn end(mut self) -> Vec<String> {
        drop(self.input.take());
        let lines: Vec<String> = self.lines.iter().collect();
        assert!(self.child.wait().expect("the run ends").success(), "{lines:#?}");
        lines
    }

    /// Waits until it was killed, or killed itself.
    #[track_caller]
    pub fn dies(mut self) {
        assert_eq!(self.child.wait().expect("it is our child").code(), None, "it was not killed");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The entries of the ledger, in order.
pub fn entries(project: &Project) -> Vec<Value> {
    let read = |n: u64| {
        let path = project.path().join(format!("lake/_sluice/t/ledger/{n:020}.json"));
        Some(serde_json::from_str(&std::fs::read_to_string(path).ok()?).expect("an entry is JSON"))
    };
    (1..).map_while(read).collect()
}

#[test]
fn a_changed_expectation_judges_what_comes_next_and_a_mistake_changes_nothing() {
    let project = project(&expect("n < 10"));
    let mut running = Running::of(&project);
    running.feed([1, 50]);
    running.until("valid 1  error 1");
    project.write("sluice.toml", expect("n < 100"));
    let line = running.until("reload");
    assert!(line.contains("expect/small: generation "), "{line}");
    running.feed([50, 500, 1]);
    running.until("valid 2  error 1");
    project.write("sluice.toml", expect("m < 100"));
    let line = running.until("refused");
    assert!(line.contains("sluice.toml:8: expectation `small` reads `m`"), "{line}");
    running.feed([50]);
    running.until("valid 1  error 0");
    // as it was before the mistake: nothing to do, and said so
    project.write("sluice.toml", expect("n < 100"));
    running.until("nothing that judges changed");
    running.end();
    assert_eq!(project.counted(), Counted { valid: 4, error: 2, dlq: 0, doubled: 0 });
    project.sluice(&["reconcile"]).expect(0);
    let history = project.sluice(&["history"]).expect(0);
    assert!(history.contains("file      the first\n"), "{history}");
    assert!(history.contains("file      expect/small  ← in force"), "{history}");
    let hash = history.lines().last().and_then(|line| line.split_whitespace().nth(3)).expect("a generation");
    let shown = project.sluice(&["inspect", "generation", hash]).expect(0);
    assert!(shown.contains("n < 100"), "{shown}");
}

#[test]
fn a_rollback_reaches_a_running_host_and_outlives_it_until_the_file_changes() {
    let project = project(&expect("n < 10"));
    project.feed(&["run"], b"{\"n\": 1}\n");
    project.write("sluice.toml", expect("n < 100"));
    let mut running = Running::of(&project);
    running.until("ctrl-c");
    let said = project.sluice(&["rollback"]).expect(0);
    assert!(said.contains("changed  expect/small"), "{said}");
    running.until("by the ledger's word");
    running.feed([50]);
    running.until("valid 0  error 1");
    // white space changes the file and not what it says: the operator's word stands
    project.write("sluice.toml", expect("n < 100") + "\n");
    running.until("which an operator put in force");
    running.feed([51]);
    running.until("valid 0  error 1");
    running.end();
    let ran = project.feed(&["run"], b"{\"n\": 52}\n").expect(0);
    assert!(ran.contains("is in force, by `sluice promote` or `sluice rollback`"), "{ran}");
    assert_eq!(project.counted(), Counted { valid: 1, error: 3, dlq: 0, doubled: 0 });
    project.write("sluice.toml", expect("n < 99"));
    project.feed(&["run"], b"{\"n\": 53}\n").expect(0);
    assert_eq!(project.counted(), Counted { valid: 2, error: 3, dlq: 0, doubled: 0 });
    let history = project.sluice(&["history", "--json"]).expect(0);
    let causes: Vec<_> = history.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["cause"].clone()).collect();
    assert_eq!(causes, ["file", "file", "rollback", "file"]);
    let refused = project.sluice(&["rollback", "123456"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("no generation of this pipeline begins with `123456`"), "{}", refused.stderr);
    project.sluice(&["reconcile"]).expect(0);
}

/// A run is killed at `point` while it puts another generation in force; answers the project.
fn killed_at(point: &str) -> Project {
    let project = project(&expect("n < 10"));
    let begun = project.feed(&["run"], b"{\"n\": 50}\n");
    assert_eq!(begun.code, Some(0), "{}", begun.stderr);
    let mut command = project.command(&["run"]);
    command.env("SLUICE_CRASH_AT", point);
    let mut running = Running::start(command);
    running.feed([51]);
    running.until("error 1");
    project.write("sluice.toml", expect("n < 100"));
    running.dies();
    project
}

#[test]
fn a_kill_in_the_midst_of_a_swap_leaves_one_generation_in_force() {
    for (point, is_new) in [("activate/stored", false), ("activate/appended", true)] {
        let project = killed_at(point);
        let activations = entries(&project).iter().filter(|entry| entry["kind"] == "activate").count();
        assert_eq!(activations, usize::from(is_new), "{point}");
        project.sluice(&["reconcile"]).expect(0);
        // the file still says the same, so the next run judges by it, whether or not the ledger had heard of it
        project.feed(&["run"], b"{\"n\": 52}\n").expect(0);
        let activations = entries(&project).iter().filter(|entry| entry["kind"] == "activate").count();
        assert_eq!(activations, 1, "{point}");
        assert_eq!(project.counted(), Counted { valid: 1, error: 2, dlq: 0, doubled: 0 }, "{point}");
        project.sluice(&["reconcile"]).expect(0);
    }
}
