//! Standard input, one record per line, read once.
//!
//! There is nothing to come back to, so nothing is resumed: every run is a topic of its own, `stdin/<uuid>`, whose lines
//! begin at 1. Rows of two runs never collide, and the ledger accounts for each run by itself. What was read but not
//! committed when the process dies is lost, and the source says so ([`Source::caveat`]).

use std::io::{self, Read};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::error::{Error, Result};
use crate::record::TopicPartition;
use crate::source::files::lines::{Bounds, Cut, Lines};
use crate::source::files::{Handed, hand_over, raw};
use crate::source::{Command, Intake, Source, StartAt};

/// A line that has come whole waits for others so long.
const LINGER: Duration = Duration::from_millis(50);

/// Standard input.
pub struct StdinSource<R = Stdin> {
    input: Option<R>,
    partition: TopicPartition,
    bounds: Bounds,
}

impl StdinSource {
    /// Standard input of this process; payloads are decoded up to `max_record` bytes.
    pub fn new(max_record: usize) -> Self {
        StdinSource::from_input(Stdin { since: None }, max_record)
    }
}

impl<R: Read + Send> StdinSource<R> {
    fn from_input(input: R, max_record: usize) -> Self {
        let partition = TopicPartition::new(format!("stdin/{}", Uuid::now_v7()), 0);
        StdinSource { input: Some(input), partition, bounds: Bounds::new(max_record) }
    }

    /// Refuses to read again what cannot be read again.
    fn obey(&self, intake: &dyn Intake) -> Result<()> {
        while let Some(command) = intake.command() {
            match command {
                Command::Applied(_) => {}
                Command::Seek(positions) => {
                    if let Some(line) = positions.get(&self.partition) {
                        return Err(Error::Diverged(format!(
                            "standard input cannot be read again from line {line}: pipe it once more into a new run"
                        )));
                    }
                }
            }
        }
        Ok(())
    }
}

impl<R: Read + Send> Source for StdinSource<R> {
    fn describe(&self) -> String {
        "standard input".to_owned()
    }

    fn caveat(&self) -> Option<String> {
        Some(
            "standard input cannot be read again: lines that were not committed when a run dies are lost, and lines \
             that are piped twice make rows twice"
                .to_owned(),
        )
    }

    fn run(&mut self, intake: &dyn Intake, _until_end: bool) -> Result<()> {
        let input = self.input.take().ok_or_else(|| Error::Host("standard input is read a second time".to_owned()))?;
        let start = StartAt { offset: 1, topic_id: None };
        intake.start([(self.partition.clone(), start)].into())?;
        let mut lines = Lines::new(input, 1, self.bounds);
        while !intake.stopping() {
            self.obey(intake)?;
            let cut = lines
                .next()
                .map_err(|e| Error::environment(format!("cannot read standard input at line {}", e.line), e.source))?;
            match cut {
                Cut::Batch(batch) => {
                    if hand_over(intake, raw(&self.partition, batch))? == Handed::Stopping {
                        break;
                    }
                }
                Cut::Idle => {}
                Cut::End => break,
            }
        }
        Ok(())
    }
}

/// File descriptor 0, which answers [`io::ErrorKind::WouldBlock`] when nothing comes for [`LINGER`], or when more has
/// been coming for so long: lines that are whole are then handed on, and the source sees whether it should stop.
pub struct Stdin {
    since: Option<Instant>,
}

impl Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let left = LINGER.saturating_sub(since.elapsed());
        if left.is_zero() || !is_readable(left)? {
            self.since = None;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // not io::stdin(): its buffer would hold bytes that poll does not see
        // SAFETY: the pointer and the length are those of a slice that is borrowed mutably for the call
        let n = unsafe { libc::read(libc::STDIN_FILENO, buffer.as_mut_ptr().cast(), buffer.len()) };
        if n < 0 { Err(io::Error::last_os_error()) } else { Ok(n as usize) }
    }
}

/// Waits for input or for its end.
fn is_readable(wait: Duration) -> io::Result<bool> {
    let mut descriptor = libc::pollfd { fd: libc::STDIN_FILENO, events: libc::POLLIN, revents: 0 };
    let millis = wait.as_millis().max(1) as libc::c_int; // at most LINGER
    // SAFETY: one valid pollfd, and the count says one
    match unsafe { libc::poll(&mut descriptor, 1, millis) } {
        -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => Ok(false),
        -1 => Err(io::Error::last_os_error()),
        n => Ok(n > 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::collecting::Collecting;

    #[test]
    fn every_run_is_a_topic_of_its_own() {
        let intake = Collecting::default();
        for _ in 0..2 {
            StdinSource::from_input("a\r\n\nb".as_bytes(), 1 << 20).run(&intake, true).unwrap();
        }
        let records = intake.records();
        let topics: std::collections::BTreeSet<_> = records.iter().map(|r| r.partition.topic.clone()).collect();
        assert_eq!(topics.len(), 2, "{topics:?}");
        assert!(topics.iter().all(|t| t.starts_with("stdin/")));
        let lines: Vec<_> = records.iter().map(|r| (r.offset, r.text())).collect();
        let one_run = [(1, "a".to_owned()), (2, String::new()), (3, "b".to_owned())];
        assert_eq!(lines, [one_run.clone(), one_run].concat());
        assert_eq!(intake.starts(), 2);
    }

    #[test]
    fn it_does_not_pretend_to_read_again() {
        let intake = Collecting::default();
        let mut source = StdinSource::from_input("a\n".as_bytes(), 1 << 20);
        intake.command_after(0, Command::Seek([(source.partition.clone(), 1)].into()));
        let error = source.run(&intake, true).unwrap_err();
        assert!(matches!(error, Error::Diverged(_)), "{error:?}");
        assert!(source.caveat().unwrap().starts_with("standard input cannot be read again"));
    }
}
