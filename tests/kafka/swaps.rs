//! Two processes of a group while what judges changes under load: every entry names one generation, whoever appended it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::live::client;
use super::member::Member;
use super::topic::until;
use crate::broker;
use crate::project::{Counted, Project};
use crate::reload::swaps::{judged_by_one, swaps, versions};
use crate::reload::{entries, toml};

#[test]
fn two_processes_swap_under_load_and_each_entry_names_one_generation() {
    let (broker, topic) = (broker::shared().bootstrap(), broker::topic("swaps"));
    let source = format!("kafka = [\"{topic}\"]\ngroup = \"{topic}\"");
    let kafka = format!("[kafka]\nbrokers = \"{broker}\"\n[rule.guest]\nwasm = \"guest.wasm\"");
    let toml = toml(&kafka).replace("stdin = true", &source);
    let project = Project::new(&[("sluice.toml", &toml), ("t.sql", "CREATE TABLE t (n BIGINT, note STRING)")]);
    super::live::create(&topic, 4, &[]);
    let versions = versions();
    project.write("guest.wasm", &versions[0]);

    let (stop, fed) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let producer: BaseProducer = client().create().expect("settings");
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..200 {
                    let n = fed.fetch_add(1, Ordering::Relaxed);
                    let payload = format!("{{\"n\": {n}}}");
                    let record = BaseRecord::<(), str>::to(&topic).partition((n % 4) as i32).payload(&payload);
                    producer.send(record).expect("the queue has room");
                }
                producer.flush(std::time::Duration::from_secs(30)).expect("the broker takes them");
                std::thread::park_timeout(std::time::Duration::from_millis(20)); // some thousands a second
            }
        });
        let members = [Member::start(&project, ""), Member::start(&project, "")];
        members.iter().for_each(|member| member.owns(2));
        members.iter().for_each(|member| member.until("it reads", |said| !said.landed.is_empty()));
        for swap in 1..=swaps() as usize {
            project.write("guest.wasm", &versions[swap % 2]);
            for member in &members {
                let heard = |line: &&String| line.contains("from entry") || line.contains("by the ledger's word");
                member.until("it judges by the next", |said| said.log.iter().filter(heard).count() >= swap);
            }
        }
        stop.store(true, Ordering::Relaxed);
        let accounted = || -> u64 {
            entries(&project).iter().map(|entry| entry["counts"]["records"].as_u64().expect("a number")).sum()
        };
        until("everything is read", || accounted() == fed.load(Ordering::Relaxed));
        members.into_iter().for_each(|member| drop(member.stop()));
    });
    let entries = entries(&project);
    let activations = entries.iter().filter(|entry| entry["kind"] == "activate").count() as u64;
    assert_eq!(activations, swaps(), "one of the two activates, the other follows");
    let all = fed.load(Ordering::Relaxed);
    assert_eq!(project.counted(), Counted { valid: 0, error: all, dlq: 0, doubled: 0 });
    judged_by_one(&project, &entries);
    project.sluice(&["reconcile"]).expect(0);
}
