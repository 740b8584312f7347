//! Temporary files that a process left behind when it died: [`Durable`](super::Durable) writes to `<target>#<digits>`.
//!
//! It only finds them. No listing of a store shows them, so the folder itself is walked.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::config::Location;
use crate::error::{Doing, Result};

/// A temporary file.
#[derive(Clone, Debug)]
pub struct Leftover {
    /// where it lies
    pub path: PathBuf,
    /// bytes
    pub size: u64,
    /// when it was written to for the last time, by the clock of the file system
    pub modified: SystemTime,
}

/// The temporary files in a folder and below it, those of living processes among them. Stores that are no folders have
/// none.
pub fn leftovers(location: &Location) -> Result<Vec<Leftover>> {
    let Ok(folder) = location.url.to_file_path() else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    let walked = walk(&folder, &mut found);
    walked.doing(|| format!("cannot look for temporary files in {}", location.written))?;
    Ok(found)
}

fn walk(folder: &Path, found: &mut Vec<Leftover>) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(&entry.path(), found)?;
        } else if kind.is_file() && is_temporary(&entry.file_name().to_string_lossy()) {
            match entry.metadata() {
                Ok(about) => {
                    found.push(Leftover { path: entry.path(), size: about.len(), modified: about.modified()? });
                }
                // its process is alive, and has just given it its name
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}

fn is_temporary(name: &str) -> bool {
    let Some((target, digits)) = name.rsplit_once('#') else { return false };
    !target.is_empty() && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_temporaries_are_found_at_any_depth() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        for name in ["x.json", "x.json#17", "a/y.parquet#4294967296", "a/b/z#1", "a/b/z#", "#1", "a#b", "q#1x"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let url = url::Url::from_directory_path(dir.path()).unwrap();
        let found = leftovers(&Location { written: "lake".into(), url }).unwrap();
        let mut names: Vec<_> =
            found.iter().map(|f| f.path.strip_prefix(dir.path()).unwrap().display().to_string()).collect();
        names.sort_unstable();
        assert_eq!(names, ["a/b/z#1", "a/y.parquet#4294967296", "x.json#17"]);
        let nowhere = url::Url::from_directory_path(dir.path().join("none")).unwrap();
        assert!(leftovers(&Location { written: "none".into(), url: nowhere }).unwrap().is_empty());
    }
}
