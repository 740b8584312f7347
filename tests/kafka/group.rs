//! Processes that come and go: partitions are handed over inside the rebalance, and every coordinate stays one.

use std::time::Duration;

use super::member::{Member, Said};
use super::topic::{Feeding, Visits, until};
use crate::project::Counted;

/// What the loop says when somebody else moved a position.
const DROPPED: &str = "another process moved a position";

/// Entries several times a second.
const OFTEN: &str = "rows = 1_000\nevery = \"200ms\"";

/// Ends the load; answers what was planted, once all of it is accounted for.
fn read_to_the_end(visits: &Visits, feeding: Feeding) -> Counted {
    let planted = feeding.finish();
    let records = planted.valid + planted.error + planted.dlq;
    until("everything is read", || visits.accounted() == records);
    planted
}

fn handed_over_under_load(strategy: &str) {
    let visits = Visits::shared(OFTEN, &format!("\"partition.assignment.strategy\" = \"{strategy}\""));
    let feeding = visits.feed();
    let first = visits.member();
    first.owns(4);
    first.until("it reads", |said| said.landed.len() > 2);

    let second = visits.member();
    second.owns(2);
    first.owns(2);
    second.until("it reads", |said| said.landed.len() > 2);
    let left = second.stop();
    first.owns(4);
    let third = visits.member();
    third.owns(2);
    let planted = read_to_the_end(&visits, feeding);
    let all = [first.stop(), left, third.stop()];

    // a partition that is given up in time is in the ledger before anybody else reads it
    for said in &all {
        assert_eq!((said.count(DROPPED), said.count("were lost")), (0, 0), "{strategy}: {:#?}", said.log);
    }
    visits.holds(&planted);
}

#[test]
fn cooperative_rebalance_hands_positions_over_under_load() {
    handed_over_under_load("cooperative-sticky");
}

#[test]
fn eager_rebalance_hands_positions_over_under_load() {
    handed_over_under_load("range");
}

#[test]
fn cooperative_rebalance_leaves_the_other_partitions_alone() {
    let visits = Visits::shared(OFTEN, "");
    visits.fill(4_000, 100_000).finish();
    let first = visits.member();
    first.owns(4);
    let second = visits.member();
    second.owns(2);
    first.owns(2);
    let said = first.said();
    assert_eq!((said.count("partition assigned"), said.count("partition revoked")), (4, 2), "{:#?}", said.log);
    until("everything is read", || visits.accounted() == 4_000);
    first.stop();
    second.stop();
    visits.check();
}

/// Assignments and revocations that a member saw.
fn moves(said: &Said) -> usize {
    said.count("partition assigned") + said.count("partition revoked")
}

#[test]
fn static_member_comes_back_without_a_rebalance_and_a_second_of_its_name_puts_it_out() {
    let visits =
        Visits::shared(OFTEN, "\"group.instance.id\" = \"${INSTANCE:-nobody}\"\n\"heartbeat.interval.ms\" = 500");
    let feeding = visits.feed();
    let a = Member::start(&visits.project, "a");
    a.owns(4);
    let b = Member::start(&visits.project, "b");
    b.owns(2);
    a.owns(2);
    b.until("it reads", |said| !said.landed.is_empty());
    let before = moves(&a.said());
    b.stop();
    let b = Member::start(&visits.project, "b");
    b.owns(2);
    b.until("it reads", |said| !said.landed.is_empty());
    assert_eq!(moves(&a.said()), before, "nobody noticed");

    let twin = Member::start(&visits.project, "a");
    let (code, fenced) = a.ends();
    assert_eq!(code, Some(2), "{:#?}", fenced.log);
    let says = fenced.log.join("\n");
    assert!(says.contains("`group.instance.id`") && says.contains("[kafka.properties]"), "{says}");
    twin.owns(2);
    let planted = read_to_the_end(&visits, feeding);
    twin.stop();
    b.stop();
    visits.holds(&planted);
}

#[test]
fn sleeper_whose_partitions_went_to_another_doubles_nothing() {
    let visits = Visits::shared(OFTEN, "\"session.timeout.ms\" = 1500\n\"heartbeat.interval.ms\" = 300");
    let feeding = visits.feed();
    let sleeper = visits.member();
    sleeper.owns(4);
    let other = visits.member();
    other.owns(2);
    sleeper.owns(2);
    sleeper.until("it reads", |said| said.landed.len() > 2);

    sleeper.signal(libc::SIGSTOP);
    other.owns(4);
    let landed = other.said().landed.len();
    other.until("it goes on where the sleeper was", |said| said.landed.len() > landed + 1);
    sleeper.signal(libc::SIGCONT);
    sleeper.until("it sees what happened", |said| said.count("were lost") > 0);
    sleeper.owns(2);
    let landed = sleeper.said().landed.len();
    sleeper.until("it takes part again", |said| said.landed.len() > landed);
    let planted = read_to_the_end(&visits, feeding);
    sleeper.stop();
    other.stop();
    visits.holds(&planted);
}

#[test]
fn process_killed_in_a_group_of_two_leaves_its_partitions_to_the_other() {
    let visits = Visits::shared(OFTEN, "\"session.timeout.ms\" = 1500\n\"heartbeat.interval.ms\" = 300");
    let feeding = visits.feed();
    let stays = visits.member();
    stays.owns(4);
    let goes = visits.member();
    goes.owns(2);
    goes.until("it reads", |said| !said.landed.is_empty());
    goes.kill9();
    let begun = std::time::Instant::now();
    stays.owns(4);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let planted = read_to_the_end(&visits, feeding);
    stays.stop();
    visits.holds(&planted);
}

#[test]
fn process_with_another_strategy_is_told_what_keeps_it_out() {
    let visits = Visits::shared(OFTEN, "\"partition.assignment.strategy\" = \"${INSTANCE}\"");
    let first = Member::start(&visits.project, "range");
    first.owns(4);
    let second = Member::start(&visits.project, "cooperative-sticky");
    second.until("it says why it waits", |said| said.count("`partition.assignment.strategy`") > 0);
    first.stop();
    second.owns(4);
    second.stop();
}
