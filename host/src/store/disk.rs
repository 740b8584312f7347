//! The few steps on a disk that durability is made of, each with an error that names the path.
//!
//! It orders nothing: which step comes before which is [`durable`](super::durable)'s. In tests every step is also written
//! to a journal, from which the state after a power cut can be worked out.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}: {source}{}", path.display(), hint(source))]
pub(super) struct DiskError {
    doing: &'static str,
    pub(super) path: PathBuf,
    #[source]
    pub(super) source: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => "; free some space, nothing that was promised is lost",
        io::ErrorKind::FileTooLarge => "; this process may not write files of that size (`ulimit -f`)",
        io::ErrorKind::QuotaExceeded => "; the quota is used up",
        io::ErrorKind::ReadOnlyFilesystem => "; mount it for writing",
        io::ErrorKind::PermissionDenied => "; this user may not write there",
        _ => "",
    }
}

impl From<DiskError> for object_store::Error {
    fn from(error: DiskError) -> Self {
        let path = error.path.display().to_string();
        match error.source.kind() {
            io::ErrorKind::NotFound => object_store::Error::NotFound { path, source: error.into() },
            io::ErrorKind::AlreadyExists => object_store::Error::AlreadyExists { path, source: error.into() },
            _ => object_store::Error::Generic { store: "local", source: error.into() },
        }
    }
}

type Result<T> = std::result::Result<T, DiskError>;

fn at(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    let path = path.to_owned();
    move |source| DiskError { doing, path, source }
}

/// The disk. Without state, except for the journal of tests.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    #[cfg(test)]
    pub(super) journal: std::sync::Arc<std::sync::Mutex<Vec<Step>>>,
    /// what was in a file when it was synced, by the number of that step
    #[cfg(test)]
    pub(super) contents: std::sync::Arc<std::sync::Mutex<std::collections::BTreeMap<usize, Vec<u8>>>>,
}

/// What was done to the disk, for tests.
#[cfg(test)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    MakeDir(PathBuf),
    Create(PathBuf),
    SyncFile(PathBuf),
    Link(PathBuf, PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    SyncDir(PathBuf),
}

impl Disk {
    #[cfg(test)]
    fn note(&self, step: Step) {
        self.journal.lock().expect("no test panics while it holds the journal").push(step);
    }

    /// Makes a directory and its missing parents, and syncs the parent of each that it made.
    pub(super) fn make_dirs(&self, dir: &Path) -> Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        if let Some(parent) = dir.parent() {
            self.make_dirs(parent)?;
        }
        match std::fs::create_dir(dir) {
            Ok(()) => {
                #[cfg(test)]
                self.note(Step::MakeDir(dir.to_owned()));
            }
            // another process was faster, and may not have synced yet
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            // a file stands in the way: without this it would read as "the object exists already"
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                let source = io::Error::new(io::ErrorKind::NotADirectory, "a file of this name is in the way");
                return Err(at("make folder", dir)(source));
            }
            Err(e) => return Err(at("make folder", dir)(e)),
        }
        match dir.parent() {
            Some(parent) => self.sync_dir(parent),
            None => Ok(()),
        }
    }

    /// A new file; `AlreadyExists` where the name is taken.
    pub(super) fn create(&self, path: &Path) -> Result<File> {
        let file = OpenOptions::new().write(true).create_new(true).open(path).map_err(at("create", path))?;
        #[cfg(test)]
        self.note(Step::Create(path.to_owned()));
        Ok(file)
    }

    pub(super) fn write_at(&self, file: &File, path: &Path, bytes: &[u8], offset: u64) -> Result<()> {
        file.write_all_at(bytes, offset).map_err(at("write", path))
    }

    pub(super) fn sync(&self, file: &File, path: &Path) -> Result<()> {
        file.sync_all().map_err(at("sync", path))?;
        #[cfg(test)]
        {
            let content = std::fs::read(path).expect("it was synced a moment ago");
            let mut journal = self.journal.lock().expect("no test panics while it holds the journal");
            self.contents.lock().expect("nor the contents").insert(journal.len(), content);
            journal.push(Step::SyncFile(path.to_owned()));
        }
        Ok(())
    }

    /// Syncs a file that someone may have written without us.
    pub(super) fn sync_path(&self, path: &Path) -> Result<()> {
        let file = File::open(path).map_err(at("open", path))?;
        self.sync(&file, path)
    }

    /// Gives a file a second name; `AlreadyExists` where that is taken.
    pub(super) fn link(&self, from: &Path, to: &Path) -> Result<()> {
        std::fs::hard_link(from, to).map_err(at("create", to))?;
        #[cfg(test)]
        self.note(Step::Link(from.to_owned(), to.to_owned()));
        Ok(())
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        std::fs::rename(from, to).map_err(at("write", to))?;
        #[cfg(test)]
        self.note(Step::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    pub(super) fn remove(&self, path: &Path) -> Result<()> {
        std::fs::remove_file(path).map_err(at("delete", path))?;
        #[cfg(test)]
        self.note(Step::Remove(path.to_owned()));
        Ok(())
    }

    /// Makes the names in a directory durable.
    pub(super) fn sync_dir(&self, dir: &Path) -> Result<()> {
        File::open(dir).and_then(|d| d.sync_all()).map_err(at("sync folder", dir))?;
        #[cfg(test)]
        self.note(Step::SyncDir(dir.to_owned()));
        Ok(())
    }
}
