//! A disk that is full, and folders that may not be written to: the run ends with a sentence, nothing is half visible, and
//! when the cause is gone the next run finishes.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::unsure::{Fate, Unsure};
use super::{all_is_well, more, of, run_on, sentence, small};
use crate::project::{Project, Ran};

const FILES: usize = 4;

/// The disk is full from the n-th write on, for each n that a run comes to.
#[test]
fn a_disk_that_is_full_from_some_write_on_loses_nothing() {
    let writes = Arc::new(AtomicUsize::new(0));
    let count = writes.clone();
    let all = Unsure::new(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Fate::Lands
    });
    run_on(&small(FILES), all, drop).unwrap();
    let total = writes.load(Ordering::SeqCst);
    assert!(total > 6 * FILES, "{total} writes");
    // every step of the first entries, then each fifth
    for full_from in (0..total).filter(|n| *n < 18 || n % 5 == 0) {
        let project = small(FILES);
        let mut n = 0;
        let store = Unsure::new(move |_| {
            n += 1;
            if n > full_from { Fate::Fails(io::ErrorKind::StorageFull) } else { Fate::Lands }
        });
        let text = sentence(&run_on(&project, store, drop).expect_err("a full disk"));
        assert!(text.starts_with("cannot ") && text.contains("no storage space"), "from write {full_from} on: {text}");
        project.sluice(&["reconcile"]).expect(0);
        project.sluice(&["run", "--until-end"]).expect(0);
        let report = project.sluice(&["reconcile", "--json"]).expect(0);
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        let outcomes = serde_json::json!({ "valid": 3 * FILES, "error": FILES, "dlq": FILES });
        assert_eq!(report["counts"]["outcomes"], outcomes, "full from write {full_from} on");
        assert_eq!(report["pending"], serde_json::json!({}), "full from write {full_from} on");
    }
}

/// A real error of the file system, for every kind of file: no file may grow beyond a limit, the smallest first.
#[test]
fn a_file_that_may_not_grow_ends_the_run_with_its_name() {
    let mut kinds = std::collections::BTreeSet::new();
    for limit in [100, 1_000, 2_500, 6_000] {
        let project = small(FILES);
        let ran = limited(&project, &["run", "--until-end"], move || {
            // SAFETY: between fork and exec only calls that are async-signal-safe; SIG_IGN survives the exec
            unsafe {
                libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
                let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
                libc::setrlimit(libc::RLIMIT_FSIZE, &limit);
            }
        });
        assert_eq!(ran.code, Some(2), "{limit}: {}{}", ran.stdout, ran.stderr);
        assert!(ran.stderr.contains("cannot write ") && ran.stderr.contains("ulimit -f"), "{limit}: {}", ran.stderr);
        for kind in ["pipeline.json", "generations/", "objects/", "_delta_log/", "ledger/", ".parquet"] {
            if ran.stderr.contains(kind) {
                kinds.insert(kind);
            }
        }
        assert_eq!(leftovers(project.path()), [""; 0], "{limit}");
        project.sluice(&["reconcile"]).expect(0);
        all_is_well(&project, &of(FILES));
    }
    assert!(kinds.len() >= 2, "only {kinds:?}");
}

#[test]
fn a_state_folder_that_may_not_be_written_to_is_named_before_anything_happens() {
    let project = small(FILES);
    project.sluice(&["run", "--until-end"]).expect(0);
    more(&project, FILES, 1);
    let said = read_only(&project, "lake/_sluice/visits");
    assert!(said.contains("lake/_sluice/visits"), "{said}");
    all_is_well(&project, &of(FILES + 1));
}

#[test]
fn a_table_folder_that_may_not_be_written_to_is_named_and_waits() {
    for folder in ["lake/visits", "lake/visits/_delta_log", "lake/visits_dlq"] {
        let project = small(FILES);
        project.sluice(&["run", "--until-end"]).expect(0);
        more(&project, FILES, 1);
        let said = read_only(&project, folder);
        assert!(said.contains(folder), "{said}");
        all_is_well(&project, &of(FILES + 1));
    }
}

#[test]
fn a_file_in_the_way_of_a_folder_is_named() {
    for place in ["lake", "lake/_sluice", "lake/visits_errors"] {
        let project = small(FILES);
        project.write(place, "not a folder");
        let ran = project.sluice(&["run", "--until-end"]);
        assert_eq!(ran.code, Some(2), "{}{}", ran.stdout, ran.stderr);
        assert!(ran.stderr.contains(place), "{place}: {}", ran.stderr);
        std::fs::remove_file(project.path().join(place)).unwrap();
        all_is_well(&project, &of(FILES));
    }
}

/// Runs the pipeline while a folder and all below it is read-only; answers what was said. The folder is writable again.
fn read_only(project: &Project, folder: &str) -> String {
    let set = |mode: u32| {
        for folder in folders(&project.path().join(folder)) {
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    set(0o555);
    let ran = limited(project, &["run", "--until-end"], heed_permissions);
    let report = project.sluice(&["reconcile"]);
    set(0o755);
    assert_eq!(ran.code, Some(2), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stderr.contains("this user may not write there"), "{}", ran.stderr);
    report.expect(0);
    ran.stderr
}

/// Even root heeds the permissions of a file without this capability; whoever is not root never had it.
fn heed_permissions() {
    const CAP_DAC_OVERRIDE: libc::c_ulong = 1;
    // SAFETY: prctl with integers only; it fails for those who are not root, as it may
    unsafe { libc::prctl(libc::PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0) };
}

/// Runs the command after `before` in its process.
fn limited(project: &Project, arguments: &[&str], before: impl Fn() + Send + Sync + 'static) -> Ran {
    let mut command = project.command(arguments);
    // a compiled component would be a file like any other
    command.stdin(Stdio::null()).env_remove("XDG_CACHE_HOME").env_remove("HOME");
    // SAFETY: `before` is one of the functions of this module, which are async-signal-safe
    unsafe {
        command.pre_exec(move || {
            before();
            Ok(())
        })
    };
    Ran::of(command.output().expect("sluice starts"))
}

/// Every folder below one, itself among them.
fn folders(folder: &Path) -> Vec<std::path::PathBuf> {
    let below = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let mut all: Vec<_> = below.flat_map(|path| folders(&path)).collect();
    all.push(folder.to_owned());
    all
}

/// Temporaries that a run left behind.
fn leftovers(folder: &Path) -> Vec<String> {
    let files = folders(folder).into_iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    files.map(|entry| entry.unwrap().path().display().to_string()).filter(|name| name.contains('#')).collect()
}
