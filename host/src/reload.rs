//! Files that people edit, watched while a pipeline runs: a changed pipeline file, schema or component becomes the next
//! generation, at a commit boundary.
//!
//! Stage (read the files) → verify (size, sections, imports, types) → compile → trial ([`trial`]) → ready → swap. All of
//! that happens on a thread of its own; the loop hears of a candidate only when it is ready. One that is refused leaves the
//! running generation untouched. Digests decide what is a change, never modification times, which are only a reason to look.
//! In a group every process watches; whoever is first activates, the others hear of it through the ledger, and the code
//! comes from the state folder, so that they need not have the same files.
//!
//! It takes over what judges and nothing else: connections, sinks and the rest of the file count from the next start.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use sha2::{Digest, Sha256};

use crate::chain::Chain;
use crate::config::{Config, EnrichConfig, PluginCode};
use crate::error::{Blame, Doing, Error, Result};
use crate::generation::Generation;
use crate::ledger::entry::Cause;
use crate::pipeline::{Activated, Follow, Stop, Swap};
use crate::shadow::control::Control;
use crate::telemetry::Metrics;

pub mod trial;

use trial::Tried;

/// Guests are configured and tried on this thread: as much stack as where they judge.
const STACK: usize = 8 << 20;

/// Editors and compilers write in several steps: a candidate is looked at when its files were left alone for this long.
const QUIET: Duration = Duration::from_millis(200);

/// How often this process's own word is asked for, and whether the run is over.
const TURN: Duration = Duration::from_millis(50);

/// How often the ledger is read for the word of others while this process commits nothing, and how often files are looked
/// at whose changes the system does not tell: links of mounted configuration, network file systems.
const LOOK: Duration = Duration::from_secs(2);

/// How long the stored code of a generation in force may be out of reach before the run ends: until then the entries are
/// judged by the one before.
const PATIENCE: Duration = Duration::from_secs(60);

/// What became of a changed file, or of another process's activation.
pub enum Reloaded<'a> {
    /// a generation is in force from this entry on
    Activated {
        /// what judges now
        chain: &'a Chain,
        /// what judged before
        before: &'a Chain,
        /// number of the `activate` entry
        entry: u64,
        /// what it passed
        tried: Tried,
    },
    /// another process of the group, or an operator, put a generation in force
    Followed {
        /// what judges now
        chain: &'a Chain,
        /// what judged before
        before: &'a Chain,
    },
    /// files changed, but they say the same about what judges
    Same {
        /// what goes on
        going_on: &'a Chain,
        /// whether that is what the files say; else an operator put it in force since they last proposed something
        is_written: bool,
    },
    /// a shadow began or ended
    Shadow {
        /// in one sentence
        what: &'a str,
    },
    /// the candidate cannot be; what judges goes on
    Refused {
        /// why
        error: &'a Error,
        /// what goes on
        going_on: &'a Chain,
    },
}

/// Watches until `stop`.
pub struct Reload {
    thread: JoinHandle<()>,
}

/// The pipeline file as it was read when the process began.
pub struct Written<'a> {
    /// what it said
    pub config: &'a Config,
    /// hash of the generation that it made
    pub generation: String,
    /// when the reading began: what was touched from then on may say something else by now
    pub since: SystemTime,
}

impl Reload {
    /// Watches the files of the pipeline as it is `written`, while `chain` judges (which an operator may have put in force
    /// instead), and hands each next generation to `swap`. `tell` hears what happens, on the thread of
    /// this watch.
    ///
    /// # Errors
    /// The system cannot watch files.
    pub fn watch(
        chain: Arc<Chain>,
        written: Written<'_>,
        follow: Follow,
        swap: Swap,
        stop: Stop,
        metrics: Arc<Metrics>,
        mut tell: impl FnMut(Reloaded<'_>) + Send + 'static,
    ) -> Result<Reload> {
        let (changed, changes) = channel();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // what went by unseen (an overflow) is a change like any other: digests decide
            let paths = event.map(|event| event.paths).unwrap_or_default();
            let _ = changed.send(paths);
        });
        let watcher = watcher.doing(|| "cannot watch the pipeline's files".into())?;
        let inputs = inputs(written.config);
        let stamps = stamps(&inputs);
        let is_touched = |stamp: &(u64, Option<SystemTime>)| stamp.1.is_none_or(|at| at + CLOCK >= written.since);
        let is_unsure = stamps.iter().flatten().any(is_touched);
        let mut control = Control::new(follow.clone(), swap.clone(), metrics);
        let mut watch = Watch {
            seen: (!is_unsure).then(|| fingerprint(&inputs)),
            unsure: is_unsure.then_some(written.generation),
            stamps,
            inputs,
            running: chain,
            written: follow.fold()?.proposed,
            follow,
            swap,
            watcher,
            folders: BTreeSet::new(),
            touched: is_unsure.then(Instant::now),
            unable_since: None,
        };
        watch.look_after_folders()?;
        let thread = thread::Builder::new().name("reload".into()).stack_size(STACK);
        let thread = thread
            .spawn(move || {
                let mut looked: Option<Instant> = None;
                while !stop.is_asked() {
                    if watch.swap.was_poked() || looked.is_none_or(|at| at.elapsed() >= LOOK) {
                        looked = Some(Instant::now());
                        watch.look();
                        match control.look(&watch.running) {
                            Ok(Some(what)) => tell(Reloaded::Shadow { what: &what }),
                            Ok(None) => {}
                            Err(error) => tracing::warn!(error = error.sentence(), "the shadow was not looked after"),
                        }
                    }
                    watch.listen(&changes);
                    if let Some(hash) = watch.swap.wanted() {
                        watch.follow(&hash, &mut tell);
                    }
                    if watch.touched.is_some_and(|at| at.elapsed() >= QUIET) {
                        watch.touched = None;
                        watch.try_candidate(&mut tell);
                    }
                }
            })
            .doing(|| "cannot start a thread".into())?;
        Ok(Reload { thread })
    }

    /// Waits until the watch is over, which it is soon after `stop`.
    pub fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("the thread that watches files panicked");
        }
    }
}

struct Watch {
    /// what judges, as far as this thread knows
    running: Arc<Chain>,
    /// hash of the generation that the files said last
    written: Option<String>,
    inputs: BTreeSet<PathBuf>,
    /// digest of all inputs when they were last looked at; `None` where they changed while that was done
    seen: Option<[u8; 32]>,
    /// the generation that they made when the process began, where they may have been touched since
    unsure: Option<String>,
    stamps: Vec<Stamp>,
    follow: Follow,
    swap: Swap,
    watcher: RecommendedWatcher,
    folders: BTreeSet<PathBuf>,
    /// when an input was last touched, until it is looked at
    touched: Option<Instant>,
    /// since when a generation in force cannot be loaded
    unable_since: Option<Instant>,
}

/// How far a file's time may be behind the clock: systems stamp with the last tick of theirs.
const CLOCK: Duration = Duration::from_millis(20);

/// What is seen of a file without reading it; `None` where there is none.
type Stamp = Option<(u64, Option<SystemTime>)>;

impl Watch {
    /// Waits a moment for the system to tell of an input that was touched.
    fn listen(&mut self, changes: &Receiver<Vec<PathBuf>>) {
        let concerns = |paths: &[PathBuf]| {
            let is_input = |path: &PathBuf| self.inputs.iter().any(|input| input.file_name() == path.file_name());
            paths.is_empty() || paths.iter().any(is_input)
        };
        let is_touched = match changes.recv_timeout(TURN) {
            // others may write into the same folder all the time: one turn takes all that is there
            Ok(first) => {
                let more = changes.try_iter().filter(|paths| concerns(paths)).count();
                concerns(&first) || more > 0
            }
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => {
                thread::sleep(TURN);
                false
            }
        };
        if is_touched {
            self.touched = Some(Instant::now());
        }
    }

    /// Asks the ledger and the files, whatever anybody tells.
    fn look(&mut self) {
        // a store that does not answer now is asked again; commits report what is wrong with it
        if let Err(error) = self.swap.look() {
            tracing::debug!(%error, "the ledger was not read");
        }
        let stamps = stamps(&self.inputs);
        if self.stamps != stamps {
            self.stamps = stamps;
            self.touched.get_or_insert_with(Instant::now);
        }
    }

    fn try_candidate(&mut self, tell: &mut impl FnMut(Reloaded<'_>)) {
        let now = fingerprint(&self.inputs);
        if self.seen == Some(now) {
            return;
        }
        let before = self.inputs.clone();
        let file = self.running.config.file.clone();
        let loaded = Chain::load_with(&file, self.running.engine.beside());
        let unsure = self.unsure.take();
        let result = loaded.and_then(|mut candidate| {
            if unsure.as_ref() == Some(&candidate.generation.hash) {
                return Ok(Staged::Untouched);
            }
            candidate.parts.references.share(&self.running.parts.references);
            self.stage(candidate)
        });
        if result.is_err() {
            // a component that is refused is looked at again when it changes, though it does not judge yet
            self.inputs.extend(Config::load(&file).map(|config| inputs(&config)).unwrap_or_default());
        }
        let watched = self.look_after_folders();
        self.stamps = stamps(&self.inputs);
        self.seen = (fingerprint(&before) == now).then(|| fingerprint(&self.inputs));
        if self.seen.is_none() {
            self.touched = Some(Instant::now()); // it changed meanwhile
        }
        match watched.and(result) {
            Ok(Staged::Untouched) => {}
            Ok(Staged::Same { is_written }) => tell(Reloaded::Same { going_on: &self.running, is_written }),
            Ok(Staged::Activated(chain, entry, tried)) => {
                tell(Reloaded::Activated { chain: &chain, before: &self.running, entry, tried });
                self.running = chain;
            }
            Ok(Staged::Followed(chain)) => {
                tell(Reloaded::Followed { chain: &chain, before: &self.running });
                self.running = chain;
            }
            // another process was faster with the same: its word comes through the ledger
            Ok(Staged::Overtaken) => {}
            Err(error) => tell(Reloaded::Refused { error: &error, going_on: &self.running }),
        }
    }

    /// Tries a candidate that loaded, and puts it in force where it judges otherwise than what the file proposed before.
    fn stage(&mut self, mut candidate: Chain) -> Result<Staged> {
        self.inputs = inputs(&candidate.config);
        let hash = &candidate.generation.hash;
        let is_news = self.written.replace(hash.clone()).as_ref() != Some(hash);
        let fold = self.follow.fold()?;
        if self.running.generation.hash == *hash {
            if fold.proposed.as_ref() != Some(hash) {
                self.swap.activate(self.running.clone(), Cause::File)?; // what an operator said first, the file says now
            }
            // of what another process put in force a moment ago the ledger has told already
            return Ok(if is_news { Staged::Overtaken } else { Staged::Same { is_written: true } });
        }
        if fold.proposed.as_ref() == Some(hash) {
            return Ok(match fold.active.as_ref() == Some(hash) {
                true => Staged::Overtaken,
                false => Staged::Same { is_written: false },
            });
        }
        candidate.config = Arc::new(candidate.config.within(&self.running.config));
        let tried = trial::of(&candidate, &self.running, self.swap.sample())?;
        let chain = Arc::new(candidate);
        Ok(match self.swap.activate(chain.clone(), Cause::File)? {
            Activated::At(entry) => Staged::Activated(chain, entry, tried),
            Activated::Already => Staged::Followed(chain), // another process was faster by a hair
        })
    }

    /// Another process put a generation in force.
    fn follow(&mut self, hash: &str, tell: &mut impl FnMut(Reloaded<'_>)) {
        let (store, state) = self.follow.ledger.place();
        let loaded = self.follow.runtime.block_on(Generation::load(store, state, hash));
        let engine = self.running.engine.beside();
        let chain = loaded.and_then(|generation| Chain::revive(generation, &self.running.config, &engine));
        let chain = chain.map(|mut chain| {
            chain.parts.references.share(&self.running.parts.references);
            chain
        });
        match chain.map(Arc::new).and_then(|chain| self.swap.follow(chain.clone()).map(|()| chain)) {
            Ok(chain) => {
                self.unable_since = None;
                tell(Reloaded::Followed { chain: &chain, before: &self.running });
                self.running = chain;
            }
            Err(error) => {
                let since = *self.unable_since.get_or_insert_with(Instant::now);
                if error.blame() == Blame::Environment && since.elapsed() < PATIENCE {
                    tracing::warn!(%error, generation = hash, "the generation in force cannot be loaded yet");
                    thread::sleep(TURN);
                    return;
                }
                tell(Reloaded::Refused { error: &error, going_on: &self.running });
                self.swap.give_up(error);
            }
        }
    }

    /// Folders are watched, not files: editors replace a file by another one of its name.
    fn look_after_folders(&mut self) -> Result<()> {
        let folders: BTreeSet<PathBuf> =
            self.inputs.iter().filter_map(|input| input.parent()).map(Path::to_path_buf).collect();
        for folder in folders.difference(&self.folders.clone()) {
            // a folder that is not there yet holds nothing that could change
            match self.watcher.watch(folder, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.folders.insert(folder.clone())),
                Err(error) if folder.exists() => {
                    return Err(error).doing(|| format!("cannot watch {}", folder.display()));
                }
                Err(_) => {}
            }
        }
        Ok(())
    }
}

/// What became of a candidate that loaded.
enum Staged {
    /// the files make what they made when the process began
    Untouched,
    Same {
        is_written: bool,
    },
    Activated(Arc<Chain>, u64, Tried),
    Followed(Arc<Chain>),
    Overtaken,
}

/// The files that say what judges: the pipeline file, its schema, components, scripts.
pub(crate) fn inputs(config: &Config) -> BTreeSet<PathBuf> {
    let code = |code: &PluginCode| match code {
        PluginCode::Wasm(_, path) => Some(path.clone()),
        PluginCode::Script(script) => script.path.clone(),
        PluginCode::Builtin(_) | PluginCode::Stored(..) => None,
    };
    let enrichers = config.enrich.iter().filter_map(|step| match step {
        EnrichConfig::Sql { .. } | EnrichConfig::Reference(_) => None,
        EnrichConfig::Plugin(plugin) => code(&plugin.code),
    });
    let rules = config.rules.iter().filter_map(|rule| code(&rule.code));
    let auditors = config.audit.iter().flat_map(|audit| &audit.auditors).filter_map(|auditor| code(&auditor.code));
    let named = [config.file.clone(), PathBuf::from(&*config.schema.file)];
    let all = named.into_iter().chain(enrichers).chain(rules).chain(auditors);
    all.map(|path| std::path::absolute(&path).unwrap_or(path)).collect()
}

fn stamps(inputs: &BTreeSet<PathBuf>) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let there = std::fs::metadata(path).ok()?;
        Some((there.len(), there.modified().ok()))
    };
    inputs.iter().map(stamp).collect()
}

fn fingerprint(inputs: &BTreeSet<PathBuf>) -> [u8; 32] {
    let mut all = Sha256::new();
    for input in inputs {
        // a file that is gone is a change, too
        let content = std::fs::read(input).map(|bytes| Sha256::digest(&bytes)).unwrap_or_default();
        all.update(content);
    }
    all.finalize().into()
}
