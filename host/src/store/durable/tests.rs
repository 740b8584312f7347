//! What survives a power cut: the journal of disk steps is replayed on a disk that forgets what was not synced.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;
use object_store::ObjectStoreExt;

use super::super::disk::Step;
use super::*;

mod power;

/// A disk after a power cut: the worst of what POSIX allows. A name survives if its folder was synced after it was given
/// or if the folder's own name does; content survives if the file was synced.
#[derive(Default)]
struct Survivors {
    /// name → file, as a running process sees it
    names: BTreeMap<PathBuf, u32>,
    /// the same, as of the last sync of each folder
    kept: BTreeMap<PathBuf, u32>,
    /// files whose content was synced
    synced: BTreeSet<u32>,
    /// folders that were made, and whether their names survive
    folders: BTreeMap<PathBuf, bool>,
    next: u32,
}

impl Survivors {
    fn after(steps: &[Step]) -> Self {
        let mut disk = Survivors::default();
        for step in steps {
            disk.step(step);
        }
        disk
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::MakeDir(dir) => {
                self.folders.insert(dir.clone(), false);
            }
            Step::Create(path) => {
                self.next += 1;
                self.names.insert(path.clone(), self.next);
            }
            Step::SyncFile(path) => {
                self.synced.extend(self.names.get(path));
            }
            Step::Link(from, to) => {
                let file = self.names[from];
                self.names.insert(to.clone(), file);
            }
            Step::Rename(from, to) => {
                let file = self.names.remove(from).expect("renamed files exist");
                self.names.insert(to.clone(), file);
            }
            Step::Remove(path) => {
                self.names.remove(path);
            }
            Step::SyncDir(dir) => {
                self.kept.retain(|name, _| name.parent() != Some(dir));
                let here = self.names.iter().filter(|(name, _)| name.parent() == Some(dir));
                self.kept.extend(here.map(|(name, file)| (name.clone(), *file)));
                for (folder, kept) in &mut self.folders {
                    *kept |= folder.parent() == Some(dir);
                }
            }
        }
    }

    /// Whether the name is there after the cut, with all its content.
    fn has(&self, path: &FsPath) -> bool {
        let reachable = path.ancestors().skip(1).all(|folder| self.folders.get(folder).is_none_or(|kept| *kept));
        reachable && self.kept.get(path).is_some_and(|file| self.synced.contains(file))
    }

    /// Whether a name survives whose content does not: the lie that a reader could fall for.
    fn lies(&self) -> Option<&PathBuf> {
        let torn =
            |(name, file): &(&PathBuf, &u32)| !name.to_string_lossy().contains('#') && !self.synced.contains(file);
        self.names.iter().chain(&self.kept).find(torn).map(|(name, _)| name)
    }
}

struct Bench {
    folder: tempfile::TempDir,
    store: Durable,
}

impl Bench {
    fn new() -> Self {
        Bench { folder: tempfile::tempdir().unwrap(), store: Durable::new() }
    }

    fn path(&self, name: &str) -> Path {
        Path::from_absolute_path(self.folder.path().join(name)).unwrap()
    }

    fn steps(&self) -> Vec<Step> {
        self.store.disk.journal.lock().unwrap().clone()
    }

    /// Whether the object survives a cut now; and at no moment so far was there a name without content.
    fn survives(&self, name: &str) -> bool {
        let steps = self.steps();
        for end in 0..=steps.len() {
            assert_eq!(Survivors::after(&steps[..end]).lies(), None, "after {:?}", &steps[..end]);
        }
        Survivors::after(&steps).has(&self.folder.path().join(name))
    }

    async fn names(&self) -> Vec<String> {
        let prefix = Path::from_absolute_path(self.folder.path()).unwrap();
        let listed: Vec<_> = self.store.list(Some(&prefix)).try_collect().await.unwrap();
        let mut names: Vec<_> = listed.iter().filter_map(|o| o.location.filename().map(str::to_owned)).collect();
        names.sort();
        names
    }
}

fn create() -> PutOptions {
    PutOptions::from(PutMode::Create)
}

#[tokio::test]
async fn an_object_that_was_answered_for_survives_with_the_folders_that_it_needed() {
    for mode in [PutMode::Create, PutMode::Overwrite] {
        let bench = Bench::new();
        bench.store.put_opts(&bench.path("a/b/c.json"), "x".into(), mode.into()).await.unwrap();
        assert!(bench.survives("a/b/c.json"));
        assert_eq!(bench.names().await, ["c.json"], "and its temporary is gone");
        let left = std::fs::read_dir(bench.folder.path().join("a/b")).unwrap().count();
        assert_eq!(left, 1);
    }
}

#[tokio::test]
async fn the_model_notices_a_store_that_does_not_sync() {
    let bench = Bench::new();
    bench.store.put_opts(&bench.path("a/b.json"), "x".into(), create()).await.unwrap();
    let steps = bench.steps();
    let target = bench.folder.path().join("a/b.json");
    let mut harmful = 0;
    for left_out in steps.iter().filter(|s| matches!(s, Step::SyncFile(_) | Step::SyncDir(_))) {
        let rest: Vec<Step> = steps.iter().filter(|s| *s != left_out).cloned().collect();
        assert!(!Survivors::after(&rest).has(&target), "without {left_out:?}");
        harmful += 1;
    }
    assert_eq!(harmful, 3, "the file, its folder, and the folder of that: {steps:?}");
}

#[tokio::test]
async fn of_two_creates_one_wins_and_the_loser_may_rely_on_the_winner() {
    let bench = Bench::new();
    let path = bench.path("1.json");
    bench.store.put_opts(&path, "first".into(), create()).await.unwrap();
    let before = bench.steps().len();
    let error = bench.store.put_opts(&path, "second".into(), create()).await.unwrap_err();
    assert!(matches!(error, object_store::Error::AlreadyExists { .. }), "{error}");
    assert!(bench.steps()[before..].contains(&Step::SyncDir(bench.folder.path().to_owned())));
    assert_eq!(bench.store.get(&path).await.unwrap().bytes().await.unwrap(), "first");
    assert_eq!(bench.names().await, ["1.json"]);
}

#[tokio::test]
async fn of_many_threads_that_create_one_object_exactly_one_is_told_that_it_did() {
    let bench = Bench::new();
    let store = Arc::new(Durable::new());
    let path = bench.path("deep/er/1.json");
    let tasks: Vec<_> = (0..16)
        .map(|i| {
            let (store, path) = (Arc::clone(&store), path.clone());
            tokio::spawn(async move { store.put_opts(&path, format!("{i}").into(), create()).await.is_ok() })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        won += usize::from(task.await.unwrap());
    }
    assert_eq!(won, 1);
}

#[test]
fn threads_that_begin_files_in_a_new_folder_at_once_all_have_theirs() {
    let (lake, threads) = (tempfile::tempdir().unwrap(), 4);
    let (begun, failed) = (std::sync::Barrier::new(threads), std::sync::Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (begun, failed, lake) = (&begun, &failed, lake.path());
            scope.spawn(move || {
                for folder in 0..500 {
                    let target = lake.join(format!("day={folder}/{thread}.parquet"));
                    begun.wait();
                    let made = temporary(&Disk::default(), &target);
                    failed.lock().unwrap().extend(made.err().map(|e| e.to_string()));
                }
            });
        }
    });
    assert_eq!(failed.into_inner().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_large_object_appears_whole_or_not_at_all() {
    let bench = Bench::new();
    let path = bench.path("t/part-0.parquet");
    let mut upload = bench.store.put_multipart(&path).await.unwrap();
    let parts = [upload.put_part("abc".into()), upload.put_part("defgh".into()), upload.put_part("i".into())];
    for part in parts.into_iter().rev() {
        part.await.unwrap();
    }
    assert!(bench.names().await.is_empty(), "nobody sees it before it is complete");
    upload.complete().await.unwrap();
    assert!(bench.survives("t/part-0.parquet"));
    assert_eq!(bench.store.get(&path).await.unwrap().bytes().await.unwrap(), "abcdefghi");
    assert!(upload.complete().await.is_err());
}

#[tokio::test]
async fn an_upload_that_was_aborted_forgotten_or_lacks_a_part_leaves_nothing() {
    let bench = Bench::new();
    let path = bench.path("x.parquet");
    let mut aborted = bench.store.put_multipart(&path).await.unwrap();
    aborted.put_part("abc".into()).await.unwrap();
    aborted.abort().await.unwrap();
    let mut torn = bench.store.put_multipart(&path).await.unwrap();
    drop(torn.put_part("abc".into()));
    torn.put_part("def".into()).await.unwrap();
    let error = torn.complete().await.unwrap_err().to_string();
    assert!(error.contains("a part of it was not written"), "{error}");
    drop(bench.store.put_multipart(&path).await.unwrap());
    assert_eq!(std::fs::read_dir(bench.folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn copies_and_renames_survive_and_respect_what_is_there() {
    let bench = Bench::new();
    let (a, b, c) = (bench.path("a"), bench.path("d/b"), bench.path("d/c"));
    bench.store.put(&a, "one".into()).await.unwrap();
    bench.store.copy_if_not_exists(&a, &b).await.unwrap();
    assert!(bench.survives("d/b"));
    for rename in [false, true] {
        let before = bench.steps().len();
        let answer = match rename {
            false => bench.store.copy_if_not_exists(&a, &b).await,
            true => bench.store.rename_if_not_exists(&a, &b).await,
        };
        let error = answer.unwrap_err();
        assert!(matches!(error, object_store::Error::AlreadyExists { .. }), "{error}");
        let synced = Step::SyncDir(bench.folder.path().join("d"));
        assert!(bench.steps()[before..].contains(&synced), "who is told so may rely on it, rename: {rename}");
    }
    bench.store.put(&c, "two".into()).await.unwrap();
    bench.store.copy(&c, &b).await.unwrap();
    assert_eq!(bench.store.get(&b).await.unwrap().bytes().await.unwrap(), "two");
    bench.store.rename(&a, &c).await.unwrap();
    assert!(bench.survives("d/c"));
    assert_eq!(bench.store.get(&c).await.unwrap().bytes().await.unwrap(), "one");
    assert_eq!(bench.names().await, ["b", "c"]);
    let error = bench.store.copy(&a, &b).await.unwrap_err();
    assert!(matches!(error, object_store::Error::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn what_fails_says_where_and_why() {
    let bench = Bench::new();
    bench.store.put(&bench.path("file"), "x".into()).await.unwrap();
    let error = bench.store.put(&bench.path("file/below.json"), "x".into()).await.unwrap_err();
    let text = super::super::failed("cannot write the entry", error);
    let text = format!("{text}");
    assert!(text.contains("file") && text.contains("cannot"), "{text}");
    assert!(!text.contains("Generic"), "{text}");
}
