//! `sluice try --watch`: again whenever something changes that a verdict depends on.
//!
//! Digests decide what is a change, never modification times. Folders are watched, not files: editors replace a file by
//! another one of its name. Where the system tells nothing (some network file systems), the files are read every now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use sha2::{Digest, Sha256};

use crate::cli::text::{Paint, plural};
use crate::cli::{Verdict, complain};
use crate::config::Config;
use crate::error::{Doing, Error, Result};
use crate::reload::inputs;

/// Editors and compilers write in several steps: files are looked at when they were left alone for so long.
const QUIET: Duration = Duration::from_millis(150);
/// Without a word of the system.
const LOOK: Duration = Duration::from_secs(2);

type Digests = BTreeMap<PathBuf, Option<[u8; 32]>>;

/// Runs `once` now, and again after every change, until the process is ended. A mistake is shown, and waits for its end.
pub(super) fn again(pipeline: &Path, input: &Path, mut once: impl FnMut() -> Result<Verdict>) -> Result<Verdict> {
    let (changed, changes) = channel();
    let watcher = notify::recommended_watcher(move |_| _ = changed.send(()));
    let watcher = watcher.doing(|| "cannot watch the pipeline's files".into())?;
    let mut watch = Watch { watcher, changes, folders: BTreeSet::new() };
    let paint = Paint::stdout();
    let mut why = String::new();
    loop {
        // before the run: what is edited while it runs is a change
        let files = files(pipeline, input);
        watch.look_after(&files);
        let before = digests(&files);
        if std::io::stdout().is_terminal() {
            print!("\x1b[2J\x1b[H");
        }
        if !why.is_empty() {
            println!("{}\n", paint.dim(&why));
        }
        if let Err(error) = once() {
            complain(&error);
        }
        println!("{}", paint.dim(&format!("watching {}; ctrl-c ends", plural(files.len() as u64, "file"))));
        why = watch.wait(&before, || self::files(pipeline, input))?;
    }
}

struct Watch {
    watcher: RecommendedWatcher,
    changes: Receiver<()>,
    folders: BTreeSet<PathBuf>,
}

impl Watch {
    fn look_after(&mut self, files: &BTreeSet<PathBuf>) {
        for folder in files.iter().filter_map(|file| file.parent()) {
            if !self.folders.contains(folder) && self.watcher.watch(folder, RecursiveMode::NonRecursive).is_ok() {
                self.folders.insert(folder.to_owned());
            }
        }
    }

    /// Waits for a change; says which.
    fn wait(&mut self, before: &Digests, files: impl Fn() -> BTreeSet<PathBuf>) -> Result<String> {
        loop {
            match self.changes.recv_timeout(LOOK) {
                Ok(()) => while self.changes.recv_timeout(QUIET).is_ok() {},
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Host("the watch of the pipeline's files ended".into()));
                }
            }
            let now = digests(&files());
            let of = |all: &Digests, file: &PathBuf| all.get(file).copied().flatten();
            let all: BTreeSet<&PathBuf> = before.keys().chain(now.keys()).collect();
            let changed: Vec<String> = all
                .into_iter()
                .filter(|file| of(before, file) != of(&now, file))
                .filter_map(|file| Some(file.file_name()?.to_string_lossy().into_owned()))
                .collect();
            if !changed.is_empty() {
                return Ok(format!("{} changed", changed.join(", ")));
            }
        }
    }
}

/// Everything that a verdict depends on.
fn files(pipeline: &Path, input: &Path) -> BTreeSet<PathBuf> {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut files = BTreeSet::from([absolute(pipeline), absolute(input)]);
    match Config::load(pipeline) {
        Ok(config) => files.extend(inputs(&config)),
        // it cannot be read now: whatever lies beside it may be what mends it
        Err(_) => {
            let folder = absolute(pipeline);
            let beside = folder.parent().and_then(|folder| std::fs::read_dir(folder).ok());
            let beside = beside.into_iter().flatten().flatten().map(|entry| entry.path());
            let text =
                |path: &PathBuf| path.extension().is_some_and(|e| ["sql", "toml", "wasm"].iter().any(|k| e == *k));
            files.extend(beside.filter(|path| path.is_file() && text(path)));
        }
    }
    files
}

fn digests(files: &BTreeSet<PathBuf>) -> Digests {
    let digest = |file: &PathBuf| std::fs::read(file).ok().map(|bytes| Sha256::digest(&bytes).into());
    files.iter().map(|file| (file.clone(), digest(file))).collect()
}
