//! A run on the screen: lines as it goes, a bar below them, what became of everything at its end.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::lines::{
    assigned_line, end_json, end_line, entry_json, entry_line, introduce, refreshed_json, refreshed_line, width,
};
use super::{Finished, Screen};
use crate::chain::Chain;
use crate::cli::summary::Summary;
use crate::cli::text::thousands;
use crate::error::Result;
use crate::pipeline::{Follow, Happening};
use crate::source::Source;
use crate::source::files::Progress;

/// A line on standard output; a run goes on when nobody reads it any more.
pub(super) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// How often the progress bar moves.
const TICK: Duration = Duration::from_millis(200);

/// What is shown of a run.
pub(super) struct Watch {
    screen: Screen,
    pub(super) bar: ProgressBar,
    progress: Option<Arc<Progress>>,
    consumed: u64,
    /// a run that ends by itself ends with its outcomes; of one that is stopped the tables say more
    summarises: bool,
    /// when the last entry landed
    landed: Option<Instant>,
    /// whether the source ever says what is left
    has_lag: bool,
}

impl Watch {
    pub(super) fn new(screen: Screen, progress: Option<Arc<Progress>>, summarises: bool) -> Watch {
        let shows = std::io::stderr().is_terminal() && !matches!(screen, Screen::Json);
        let bar = match &progress {
            Some(progress) if shows => {
                let bar = ProgressBar::new(progress.total.load(Ordering::Relaxed));
                let style = "  {bar:32} {percent} %  {msg}  {binary_bytes_per_sec}  {eta} left";
                bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
                bar
            }
            Some(_) | None => ProgressBar::hidden(),
        };
        Watch { screen, bar, progress, consumed: 0, summarises, landed: None, has_lag: false }
    }

    /// The first lines, and the bar below them.
    pub(super) fn begin(
        &self,
        chain: &Chain,
        follow: &Follow,
        source: &dyn Source,
        metrics: Option<&str>,
    ) -> Result<()> {
        if let Screen::Text(paint) = self.screen {
            introduce(chain, follow, source, metrics, paint)?;
        }
        if let Some(progress) = self.progress.clone().filter(|_| !self.bar.is_hidden()) {
            let bar = self.bar.clone();
            // it ends with the bar
            std::thread::spawn(move || {
                while !bar.is_finished() {
                    bar.set_position(progress.done.load(Ordering::Relaxed));
                    std::thread::sleep(TICK);
                }
            });
        }
        Ok(())
    }

    pub(super) fn see(&mut self, happening: Happening) {
        match happening {
            Happening::Assigned(lag) => {
                self.has_lag = true;
                match self.screen {
                    Screen::Text(_) => self.bar.suspend(|| say(&assigned_line(lag))),
                    Screen::Json | Screen::Bar => {}
                }
            }
            Happening::Landed(landed, lag) => {
                self.consumed += landed.counts.records;
                self.bar.set_message(thousands(self.consumed));
                // while an entry lands the next one is open already: what it took overlaps
                let since = self.landed.replace(Instant::now()).map_or(landed.took, |at| at.elapsed().min(landed.took));
                let lag_shown = self.has_lag.then_some(lag);
                match self.screen {
                    Screen::Text(_) => self.bar.suspend(|| say(&entry_line(landed, since, lag_shown, width()))),
                    Screen::Json => say(&entry_json(landed, lag)),
                    Screen::Bar => {}
                }
            }
            Happening::Refreshed(refreshed) => match self.screen {
                Screen::Text(_) => self.bar.suspend(|| say(&refreshed_line(refreshed))),
                Screen::Json => say(&refreshed_json(refreshed)),
                Screen::Bar => {}
            },
            Happening::Dropped => {
                tracing::warn!("another process moved a position; an entry was dropped, its records are judged again");
            }
        }
    }

    pub(super) fn end(&self, finished: &Finished) {
        match self.screen {
            Screen::Text(_) if self.summarises => {
                say(&format!("{}\n", end_line(finished)));
                let _ = write!(std::io::stdout(), "{}", Summary::of(finished, None).render());
            }
            Screen::Text(_) => say(&end_line(finished)),
            Screen::Json => say(&end_json(finished)),
            Screen::Bar => {}
        }
    }
}
