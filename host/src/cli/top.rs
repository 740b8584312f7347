//! `sluice top`: a running pipeline, live.
//!
//! It asks the endpoint that `sluice run` serves and shows what it answers; it knows no ledger, no table and no broker. Where
//! standard output is no terminal it prints one screen and ends.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::config::{Config, Listen};
use crate::error::{Doing, Error, Result};
use crate::telemetry::metrics::state_hash;
use crate::telemetry::names;
use crate::telemetry::scrape::{self, Snapshot};

mod screen;
mod view;

use view::View;

/// Watch a running pipeline: rates, lag, findings, nanoseconds per rule.
///
/// Without a URL it looks for the processes of the pipeline file on this machine. Keys: q ends, arrows scroll.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sluice top                                the pipeline of ./sluice.toml, on this machine\n  \
sluice top pipelines/visits.toml          that of another file\n  \
sluice top http://10.0.0.7:9187/metrics   any other\n  \
sluice top --once                         one screen, for a script or a note\n  \
sluice top --list                         the name of every metric, and what it says"
)]
pub struct TopArgs {
    /// The pipeline file; or where the metrics are, as `sluice run` prints it
    #[arg(value_name = "FILE|URL", conflicts_with = "config")]
    pub place: Option<String>,
    /// The pipeline file
    #[arg(short = 'c', long = "config", value_name = "FILE", default_value = "sluice.toml")]
    pub config: PathBuf,
    /// Print one screen and end
    #[arg(long)]
    pub once: bool,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub every: u64,
    /// Print every metric with its labels and its meaning
    #[arg(long, exclusive = true)]
    pub list: bool,
}

/// Runs the command.
pub fn run(args: &TopArgs) -> Result<()> {
    if args.list {
        print!("{}", names::table());
        return Ok(());
    }
    let (url, others) = match &args.place {
        Some(place) if Path::new(place).extension().is_some_and(|e| e == "toml") => found(Path::new(place))?,
        Some(url) => (url.clone(), Vec::new()),
        None => found(&args.config)?,
    };
    if args.once || !std::io::stdout().is_terminal() {
        let view = View::of(&url, &scrape::fetch(&url)?, None, readiness(&url));
        print!("{}", view.plain());
        return Ok(());
    }
    let mut watched = Watched::new(url, others);
    watched.look()?;
    screen::show(&mut watched, Duration::from_secs(args.every)).doing(|| "cannot draw on the terminal".into())
}

/// The process of the pipeline file, and others of the same pipeline.
fn found(file: &Path) -> Result<(String, Vec<String>)> {
    let config = Config::load(file)?;
    let mut urls = match &config.metrics {
        Listen::At(address) => vec![format!("http://{}/metrics", address.replace("0.0.0.0", "127.0.0.1"))],
        Listen::Default => scrape::find(&config.name, &state_hash(&config)),
        Listen::Off => {
            let why = format!("{} switches them off: `[metrics] listen = \"off\"`", file.display());
            return Err(Error::Config(format!("there are no metrics to show: {why}")));
        }
    };
    if urls.is_empty() {
        return Err(Error::Config(format!(
            "no process of pipeline `{}` serves metrics on this machine: start `sluice run`, or name the URL that it printed \
             elsewhere",
            config.name
        )));
    }
    Ok((urls.remove(0), urls))
}

/// Why it is not ready; `None` when it is.
fn readiness(url: &str) -> Option<String> {
    let probe = format!("{}/readyz", url.trim_end_matches("/metrics").trim_end_matches('/'));
    match scrape::get(&probe, Duration::from_secs(2)) {
        Ok((200, _)) => None,
        Ok((_, why)) => Some(why.trim().to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

/// Rates are over so much: more than a commit takes to come round, little enough to see what changes.
const WINDOW: Duration = Duration::from_secs(15);

/// A process that is watched.
pub(crate) struct Watched {
    url: String,
    /// of the same pipeline, on the same machine
    others: Vec<String>,
    /// within the window, oldest first
    seen: VecDeque<(Instant, Snapshot)>,
    not_ready: Option<String>,
}

impl Watched {
    fn new(url: String, others: Vec<String>) -> Watched {
        Watched { url, others, seen: VecDeque::new(), not_ready: None }
    }

    /// Looks again. What was seen stays where nobody answers.
    fn look(&mut self) -> Result<()> {
        let snapshot = scrape::fetch(&self.url)?;
        self.not_ready = readiness(&self.url);
        let now = Instant::now();
        // a process that was started anew counts from 0
        if self.seen.back().is_some_and(|(_, last)| last.sum(&names::STARTED) != snapshot.sum(&names::STARTED)) {
            self.seen.clear();
        }
        while self.seen.len() > 1 && self.seen.get(1).is_some_and(|(at, _)| now - *at >= WINDOW) {
            self.seen.pop_front();
        }
        self.seen.push_back((now, snapshot));
        Ok(())
    }

    /// What there is to show.
    fn view(&self) -> View {
        let Some((now, last)) = self.seen.back() else {
            return View::of(&self.url, &Snapshot::default(), None, self.not_ready.clone());
        };
        let before = self.seen.front().filter(|(at, _)| at < now).map(|(at, snapshot)| (snapshot, *now - *at));
        let mut view = View::of(&self.url, last, before, self.not_ready.clone());
        if !self.others.is_empty() {
            view.note(format!("other processes of the pipeline: {}", self.others.join("  ")));
        }
        view
    }
}
