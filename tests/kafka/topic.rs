//! A topic of four partitions with generated visits in it, and the pipeline that reads it.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use sluice_host::source::kafka::produce::Producer;

use crate::broker::{self, ALICE, Broker};
use crate::project::{Counted, Project, VISITS_SQL, visits_toml};

use super::member::Member;

/// A pipeline over a topic of its own.
pub struct Visits {
    pub project: Project,
    pub topic: String,
    brokers: String,
}

/// How the pipeline reaches the broker, as its file says it.
pub fn plain(brokers: &str) -> String {
    format!("[kafka]\nbrokers = \"{brokers}\"\n")
}

/// The same over TLS, with a password.
pub fn secure(broker: &Broker) -> String {
    let (brokers, ca) = (broker.secure_bootstrap(), broker.ca());
    format!(
        "[kafka]\nbrokers = \"{brokers}\"\nsecurity = \"sasl_ssl\"\nmechanism = \"SCRAM-SHA-512\"\nca = \"{}\"\n\
         username = \"{}\"\npassword = \"${{file:password}}\"\n",
        ca.display(),
        ALICE.0
    )
}

impl Visits {
    /// The pipeline; `extra` goes to the top of its file, so it must end with the section that it leaves open. Nothing is
    /// in the topic yet. `brokers` are for who fills it.
    pub fn new(brokers: String, extra: &str) -> Visits {
        let topic = broker::topic("visits");
        let toml = visits_toml(&format!("kafka = [\"{topic}\"]\ngroup = \"{topic}\""), extra);
        let project = Project::new(&[("sluice.toml", &toml), ("visits.sql", VISITS_SQL), ("password", ALICE.1)]);
        let mut producer =
            Producer::new(&[("bootstrap.servers".to_owned(), brokers.clone())].into()).expect("settings");
        producer.create_topic(&topic, 4).expect("the topic is new");
        Visits { project, topic, brokers }
    }

    /// On the shared broker; `properties` are lines of `[kafka.properties]`.
    pub fn shared(commit: &str, properties: &str) -> Visits {
        let brokers = broker::shared().bootstrap();
        let kafka = plain(&brokers);
        Visits::new(brokers, &format!("[commit]\n{commit}\n{kafka}[kafka.properties]\n{properties}\n"))
    }

    /// Fills the topic, so many records a second, until dropped or done.
    pub fn fill(&self, records: u64, rate: u64) -> Filling {
        let (records, rate) = (records.to_string(), rate.to_string());
        let to = ["generate", "visits", "--topic", &self.topic, "--brokers", &self.brokers, "--partitions", "4"];
        let how = ["--records", &records, "--rate", &rate, "--tally", "tally.json"];
        let mut command = self.project.command(&[&to[..], &how].concat());
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        Filling(command.spawn().expect("sluice starts"))
    }

    /// Fills the topic with some 4,000 records a second until told to stop.
    pub fn feed(&self) -> Feeding {
        self.feed_in(2_000, 4_000)
    }

    /// Fills the topic in rounds of so many records, so many a second, until told to stop.
    pub fn feed_in(&self, round: u64, rate: u64) -> Feeding {
        let stop = Arc::<AtomicBool>::default();
        let told = stop.clone();
        let (folder, topic, brokers) = (self.project.path().to_owned(), self.topic.clone(), self.brokers.clone());
        let rounds = std::thread::spawn(move || {
            let mut all = Counted { valid: 0, error: 0, dlq: 0, doubled: 0 };
            for seed in 1.. {
                let to = ["generate", "visits", "--topic", &topic, "--brokers", &brokers, "--partitions", "4"];
                let (round, rate, seed) = (round.to_string(), rate.to_string(), seed.to_string());
                let how = ["--records", &round, "--rate", &rate, "--tally", "tally.json", "--seed", &seed];
                loop {
                    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
                    let done = command.args(to).args(how).current_dir(&folder).output().expect("sluice starts");
                    let said = String::from_utf8_lossy(&done.stderr);
                    // the broker may be down when a round begins; nothing was written then
                    if done.status.success() || !said.contains("cannot reach any broker") {
                        assert!(done.status.success(), "{said}");
                        break;
                    }
                }
                let tally = std::fs::read(folder.join("tally.json")).expect("it was written");
                let planted = Counted::planted(&serde_json::from_slice(&tally).expect("the tally is JSON"));
                (all.valid, all.error, all.dlq) =
                    (all.valid + planted.valid, all.error + planted.error, all.dlq + planted.dlq);
                if told.load(Ordering::Relaxed) {
                    break;
                }
            }
            all
        });
        Feeding { stop, rounds: Some(rounds) }
    }

    /// Starts a process that reads it.
    pub fn member(&self) -> Member {
        Member::start(&self.project, "")
    }

    /// Records that the ledger accounts for.
    pub fn accounted(&self) -> u64 {
        self.entries().iter().map(|entry| entry["counts"]["records"].as_u64().expect("a number")).sum()
    }

    /// The entries of the ledger, in order.
    pub fn entries(&self) -> Vec<serde_json::Value> {
        (1..).map_while(|n| self.entry(n)).collect()
    }

    /// Entry `n`, if it is there.
    pub fn entry(&self, n: u64) -> Option<serde_json::Value> {
        let path = self.project.path().join(format!("lake/_sluice/visits/ledger/{n:020}.json"));
        let text = std::fs::read_to_string(path).ok()?;
        Some(serde_json::from_str(&text).expect("an entry is JSON, and whole as soon as it can be seen"))
    }

    /// When everything is read: tables hold what the tally says, once.
    #[track_caller]
    pub fn check(&self) {
        self.holds(&Counted::planted(&serde_json::from_str(&self.project.read("tally.json")).expect("JSON")));
    }

    /// When everything is read: tables hold what was planted, once.
    #[track_caller]
    pub fn holds(&self, planted: &Counted) {
        assert_eq!(self.project.counted(), *planted);
        self.project.sluice(&["reconcile"]).expect(0);
    }
}

/// A generator at work.
pub struct Filling(Child);

impl Filling {
    /// Waits until all is in the topic and the tally is written.
    pub fn finish(mut self) {
        assert!(self.0.wait().expect("it is our child").success(), "the generator says why");
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Generators at work one after the other, for as long as a test wants load.
pub struct Feeding {
    stop: Arc<AtomicBool>,
    rounds: Option<JoinHandle<Counted>>,
}

impl Feeding {
    /// Ends with the round that is under way; what was planted in all of them.
    pub fn finish(mut self) -> Counted {
        self.stop.store(true, Ordering::Relaxed);
        self.rounds.take().expect("it is finished once").join().expect("the generator says why")
    }
}

impl Drop for Feeding {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Waits until something holds that only looking tells.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !holds() {
        assert!(begun.elapsed().as_secs() < 120, "still waiting until {what}");
        // a look is dear and the machine small; nothing depends on how long this takes
        std::thread::park_timeout(std::time::Duration::from_millis(2));
    }
}
