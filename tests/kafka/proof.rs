//! The proof: visits on four partitions, two processes in the group, and everything that can end or stop a process or a
//! broker, at random times under load. Afterwards another reader finds what was planted, each coordinate once.
//!
//! `SLUICE_PROOF_RECORDS` is the least size: the is 2000000, with its 20 kills; without it, what a CI machine does in
//! some 20 seconds. `SLUICE_PROOF_SEED` repeats the times of a run, as far as processes allow.

use std::collections::BTreeSet;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::broker::{Broker, Options};

use super::member::Member;
use super::topic::{Visits, plain, secure, until};

/// splitmix64: what is needed is a seed that can be printed, not a good generator.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// What happens once so many records are accounted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Blow {
    /// kill −9 of a process, wherever it is
    Kill,
    /// kill −9 of a process that has just appended an entry
    KillAfterAppend,
    /// SIGSTOP of a process until the group has gone on without it
    Sleep,
    /// kill −9 of the broker
    Broker,
}

/// What a process left behind.
struct Death {
    /// entries that no process had said it applied, and that the table of valid rows did not have
    left: BTreeSet<u64>,
}

struct Proof {
    visits: Visits,
    broker: Broker,
    members: Vec<Member>,
    /// entries that some process appended and lived to tell
    told: BTreeSet<u64>,
    deaths: Vec<Death>,
    accounted: u64,
    head: u64,
}

impl Proof {
    /// Reads on in the ledger.
    fn look(&mut self) -> u64 {
        while let Some(entry) = self.visits.entry(self.head + 1) {
            self.head += 1;
            self.accounted += entry["counts"]["records"].as_u64().expect("a number");
        }
        for member in &mut self.members {
            member.must_live();
        }
        self.accounted
    }

    fn strike(&mut self, blow: Blow, random: &mut Random) {
        match blow {
            Blow::Kill => {
                let victim = random.below(2) as usize;
                self.kill(victim);
            }
            Blow::KillAfterAppend => {
                let Some(victim) = self.next_to_append() else { return };
                self.kill(victim);
            }
            Blow::Sleep => {
                let sleeper = random.below(2) as usize;
                self.members.iter().for_each(|member| member.owns(2));
                self.members[sleeper].signal(libc::SIGSTOP);
                self.members[1 - sleeper].owns(4);
                self.members[sleeper].signal(libc::SIGCONT);
                self.members[sleeper].until("it sees what happened", |said| said.count("were lost") > 0);
                self.members[sleeper].owns(2);
            }
            Blow::Broker => {
                // one that has not begun gives up after 10 s, as it should
                self.members.iter().for_each(|member| member.owns(2));
                self.broker.kill9();
                self.broker.restart();
            }
        }
    }

    /// The process that appends the next entry; as soon as that is there.
    fn next_to_append(&mut self) -> Option<usize> {
        let head = self.head;
        until("another entry is there", || {
            self.look();
            self.head > head
        });
        let entry = self.visits.entry(self.head)?;
        let partition = format!("{}/{}", self.visits.topic, entry["ranges"][0]["partition"]);
        self.members.iter().position(|member| member.said().owned.contains(&partition))
    }

    /// Kills a process, notes what it left, and starts another in its place.
    fn kill(&mut self, victim: usize) {
        let said = self.members.remove(victim).kill9();
        let applied = applied(&self.visits);
        self.members.push(self.visits.member());
        self.look();
        self.told.extend(said.landed);
        let left = (applied + 1..=self.head).filter(|n| !self.told.contains(n)).collect();
        self.deaths.push(Death { left });
    }

    /// Entries that another process applied, because the one that appended them was dead.
    fn rolled_forward(&self) -> usize {
        let told: BTreeSet<u64> =
            self.members.iter().flat_map(|member| member.said().landed).chain(self.told.iter().copied()).collect();
        let left: BTreeSet<u64> = self.deaths.iter().flat_map(|death| &death.left).copied().collect();
        left.difference(&told).count()
    }
}

/// The last entry in the table of valid rows, read from its log as any reader could.
fn applied(visits: &Visits) -> u64 {
    let log = visits.project.path().join("lake/visits/_delta_log");
    let files = std::fs::read_dir(log).expect("the table is there").map(|file| file.expect("it can be listed").path());
    let mut commits: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    commits.sort();
    let mark = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path).expect("a commit is never removed so soon");
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        lines.filter_map(|line| line["txn"]["version"].as_u64()).next()
    };
    commits.iter().rev().find_map(mark).unwrap_or(0)
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.replace('_', "").parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

fn prove(how: &str, kafka: impl FnOnce(&Broker) -> String) {
    let records = number("SLUICE_PROOF_RECORDS").unwrap_or(30_000);
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").subsec_nanos();
    let seed = number("SLUICE_PROOF_SEED").unwrap_or_else(|| now().into());
    let kills = if records >= 1_000_000 { 20 } else { 4 };
    println!("proof over {how}: {records} records, {kills} kills, SLUICE_PROOF_SEED={seed}");
    let mut random = Random(seed);
    let mut blows = vec![];
    for n in 0..kills {
        // the others are aimed, so that something is left behind however fast the machine is
        blows.push(if n % 2 == 0 { Blow::Kill } else { Blow::KillAfterAppend });
    }
    blows.extend([Blow::Sleep, Blow::Broker]);
    let (first, last) = (records / 20, records * 4 / 5);
    let mut plan: Vec<(u64, Blow)> = blows.into_iter().map(|blow| (first + random.below(last - first), blow)).collect();
    plan.sort();

    let broker = Broker::start(Options { secure: true, ..Options::default() });
    let extra = format!(
        "[commit]\nrows = 2_000\nevery = \"1s\"\n{}[kafka.properties]\n\"session.timeout.ms\" = 1500\n\
         \"heartbeat.interval.ms\" = 300\n",
        kafka(&broker)
    );
    let visits = Visits::new(broker.bootstrap(), &extra);
    let begun = Instant::now();
    // until told to stop, so that the last blow meets a run under load, however fast the machine is
    let feeding = visits.feed_in((records / 20).max(2_000), (records / 100).max(4_000));
    let members = vec![visits.member(), visits.member()];
    let (told, deaths) = (BTreeSet::new(), vec![]);
    let mut proof = Proof { visits, broker, members, told, deaths, accounted: 0, head: 0 };
    for member in &proof.members {
        member.owns(2);
    }
    for (at, blow) in plan {
        until("the run goes on", || proof.look() >= at);
        println!(
            "{:6.1} s: {:>9} records, entry {:>5}: {blow:?}",
            begun.elapsed().as_secs_f64(),
            proof.accounted,
            proof.head
        );
        proof.strike(blow, &mut random);
    }
    until("the run goes on", || proof.look() >= records);
    // where each of the dead had just applied what it appended, others are struck
    for _ in 0..20 {
        if proof.rolled_forward() > 0 {
            break;
        }
        proof.strike(Blow::KillAfterAppend, &mut random);
        let head = proof.head;
        until("the others have told what they appended", || {
            proof.look();
            proof.head > head + 3
        });
    }
    let planted = feeding.finish();
    let records = planted.valid + planted.error + planted.dlq;
    until("everything is read", || proof.look() >= records);
    let took = begun.elapsed().as_secs_f64();
    let rolled = proof.rolled_forward();
    let deaths = proof.deaths.len();
    println!(
        "{took:6.1} s: all read, {} entries, {deaths} deaths, {rolled} entries rolled forward by others",
        proof.head
    );
    for member in std::mem::take(&mut proof.members) {
        member.stop();
    }
    assert_eq!(proof.accounted, records);
    assert!(deaths >= kills && rolled > 0, "{deaths} deaths left {rolled} entries to others, SLUICE_PROOF_SEED={seed}");
    proof.visits.holds(&planted);
}

#[test]
fn two_processes_survive_kills_a_sleep_and_a_broker_that_dies() {
    prove("plaintext", |broker| plain(&broker.bootstrap()));
}

#[test]
fn two_processes_survive_the_same_over_sasl_ssl() {
    prove("SASL_SSL", secure);
}
