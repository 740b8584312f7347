//! A broker that is slow, silent, or gone: the run goes on or stops when asked, and the data is intact.

use std::time::{Duration, Instant};

use super::proxy::Distant;
use super::topic::{Visits, plain, until};

const RECORDS: u64 = 20_000;

#[test]
fn broker_that_is_slow_then_silent_then_gone_costs_nothing_but_time() {
    let distant = Distant::start();
    let kafka = plain(&distant.bootstrap());
    let extra = format!(
        "[commit]\nrows = 1_000\nevery = \"200ms\"\n{kafka}[kafka.properties]\n\"session.timeout.ms\" = 1500\n\
         \"heartbeat.interval.ms\" = 300\n\"socket.timeout.ms\" = 2000\n"
    );
    let visits = Visits::new(distant.bootstrap(), &extra);
    let filling = visits.fill(RECORDS, 4_000);

    // some 1.6 MB/s each way
    distant.slow(16 << 10, Duration::from_millis(10));
    let mut member = visits.member();
    member.owns(4);
    member.until("it reads", |said| said.landed.len() > 2);
    distant.slow(1 << 16, Duration::ZERO);

    // longer than the session: the group gives its partitions away, and it must come back by itself
    distant.stall();
    member.until("it knows that it is out", |said| said.count("were lost") > 0);
    distant.resume();
    filling.finish();
    until("everything is read", || visits.accounted() == RECORDS);
    member.owns(4);
    member.must_live();

    distant.broker.kill9();
    member.until("it notices", |said| said.count("no broker can be reached") > 0);
    let begun = Instant::now();
    member.stop();
    assert!(begun.elapsed() < Duration::from_secs(15), "a stop without a broker took {:?}", begun.elapsed());
    distant.broker.restart();
    visits.project.sluice(&["run", "--until-end"]).expect(0);
    visits.check();
}
