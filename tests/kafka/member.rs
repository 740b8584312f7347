//! A `sluice run` that goes on while the test does: what it says on both streams, and signals.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crate::project::Project;

const PATIENCE: Duration = Duration::from_secs(90);

/// A process of the group; killed when it is dropped.
pub struct Member {
    child: Child,
    seen: Arc<Seen>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    said: Mutex<Said>,
    changed: Condvar,
}

/// What a member has said so far.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// numbers of the entries that it appended and applied, in order
    pub landed: Vec<u64>,
    /// records in them
    pub records: u64,
    /// partitions that it has, by its own word
    pub owned: BTreeSet<String>,
    /// its log
    pub log: Vec<String>,
}

impl Said {
    /// Lines of the log with this text.
    pub fn count(&self, text: &str) -> usize {
        self.log.iter().filter(|line| line.contains(text)).count()
    }

    fn hear(&mut self, line: String) {
        let partition = line.split("partition=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
        if line.contains("partition assigned") {
            self.owned.insert(partition.to_owned());
        } else if line.contains("partition revoked") {
            self.owned.remove(partition);
        }
        self.log.push(line);
    }

    fn land(&mut self, line: &str) {
        let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { return };
        if let Some(entry) = line["entry"].as_u64() {
            self.landed.push(entry);
            self.records += line["counts"]["records"].as_u64().unwrap_or(0);
        }
    }
}

impl Member {
    /// Starts one. `instance` goes to the environment, for pipeline files that say `${INSTANCE}`.
    pub fn start(project: &Project, instance: &str) -> Member {
        let mut command = project.command(&["run", "--json", "--workers", "1"]);
        command.env("SLUICE_LOG", "info").env("INSTANCE", instance);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sluice starts");
        let seen = Arc::<Seen>::default();
        let out = child.stdout.take().expect("it is piped");
        let log = child.stderr.take().expect("it is piped");
        let readers =
            vec![follow(out, seen.clone(), |said, line| said.land(&line)), follow(log, seen.clone(), Said::hear)];
        Member { child, seen, readers }
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.seen.said.lock().expect("no panic holds the lock")
    }

    /// What it has said so far.
    pub fn said(&self) -> Said {
        self.lock().clone()
    }

    /// Waits until what it says is so.
    #[track_caller]
    pub fn until(&self, what: &str, mut holds: impl FnMut(&Said) -> bool) {
        let (said, waited) =
            self.seen.changed.wait_timeout_while(self.lock(), PATIENCE, |said| !holds(said)).expect("no panic");
        assert!(!waited.timed_out(), "still waiting until {what}; it said {:#?}", *said);
    }

    /// Waits until it has so many partitions.
    #[track_caller]
    pub fn owns(&self, partitions: usize) {
        self.until(&format!("it has {partitions} partitions"), |said| said.owned.len() == partitions);
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: kill takes no pointers, and the child is not reaped yet
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }

    /// Panics if it has ended.
    #[track_caller]
    pub fn must_live(&mut self) {
        let ended = self.child.try_wait().expect("it is our child");
        assert_eq!(ended, None, "it ended by itself and said {:#?}", self.lock().log);
    }

    /// Waits until it ends by itself.
    pub fn ends(mut self) -> (Option<i32>, Said) {
        let code = self.child.wait().expect("it is our child").code();
        for reader in self.readers.drain(..) {
            reader.join().expect("reading does not panic");
        }
        (code, self.said())
    }

    /// Ends it as a power cut would.
    pub fn kill9(self) -> Said {
        self.signal(libc::SIGKILL);
        let (code, said) = self.ends();
        assert_eq!(code, None, "it ended before it was killed: {:#?}", said.log);
        said
    }

    /// Asks it to stop; it must do so cleanly.
    #[track_caller]
    pub fn stop(self) -> Said {
        self.signal(libc::SIGTERM);
        let (code, said) = self.ends();
        assert_eq!(code, Some(0), "{:#?}", said.log);
        said
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // where it has ended, neither does anything
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn follow(
    stream: impl Read + Send + 'static,
    seen: Arc<Seen>,
    hear: fn(&mut Said, String),
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            hear(&mut seen.said.lock().expect("no panic holds the lock"), line);
            seen.changed.notify_all();
        }
    })
}
