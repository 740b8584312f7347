//! Which files the patterns mean: globs relative to the pipeline file, in one sorted order, each file once.
//!
//! Directories that a pattern matches are passed over: `in/*` means the files in it. A symbolic link is read as the file
//! behind it, under the link's own path, unless that file is matched too; one that leads nowhere is an error.
//! As in a shell, `*` matches no leading dot and no `/`; `**` matches folders.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern};

use crate::error::{Doing, Error, Result};

/// A file to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// relative to the pipeline file: the topic of its records
    pub topic: String,
    /// where it is
    pub path: PathBuf,
    /// bytes, as they are stored
    pub length: u64,
}

/// The files that `patterns` mean, sorted by topic.
///
/// A pattern without wildcards must name a file, or it is a mistake. One with wildcards may match nothing: a folder into
/// which nothing has been put yet is not an error.
pub fn find(base: &Path, patterns: &[String]) -> Result<Vec<Found>> {
    let mut found = BTreeMap::new();
    for pattern in patterns {
        let (paths, literal) = matching(base, pattern)?;
        for path in paths {
            let metadata = match fs::metadata(&path) {
                Ok(metadata) => metadata,
                Err(error) if literal && error.kind() == std::io::ErrorKind::NotFound => {
                    return Err(Error::Config(format!(
                        "there is no file {} (it stands in `files`; relative paths start at the pipeline file's folder)",
                        path.display()
                    )));
                }
                Err(error) => return Err(Error::environment(format!("cannot read {}", path.display()), error)),
            };
            if metadata.is_dir() {
                if literal {
                    return Err(Error::Config(format!(
                        "{pattern} is a folder; write {}/* for the files in it",
                        pattern.trim_end_matches('/')
                    )));
                }
                continue;
            }
            let topic = topic(base, &path)?;
            found.entry(topic.clone()).or_insert(Found { topic, path, length: metadata.len() });
        }
    }
    without_aliases(found.into_values().collect())
}

/// The paths that one pattern matches, and whether it has no wildcard.
fn matching(base: &Path, pattern: &str) -> Result<(Vec<PathBuf>, bool)> {
    if !pattern.contains(['*', '?', '[']) {
        return Ok((vec![base.join(pattern)], true));
    }
    let base = base.to_str().ok_or_else(|| {
        Error::Config(format!("the path {} is not UTF-8, so no pattern can start there", base.display()))
    })?;
    let whole = match Path::new(pattern).is_absolute() || base.is_empty() {
        true => pattern.to_owned(),
        false => format!("{}/{pattern}", Pattern::escape(base.trim_end_matches('/'))),
    };
    let options =
        MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };
    let paths = glob::glob_with(&whole, options)
        .map_err(|error| Error::Config(format!("`{pattern}` is not a pattern for files: {}", error.msg)))?;
    let paths: Result<Vec<_>> = paths
        .map(|path| path.map_err(|e| Error::environment(format!("cannot look into {}", e.path().display()), e)))
        .collect();
    Ok((paths?, false))
}

/// The path relative to the pipeline file, with `/` between its parts; absolute where it lies elsewhere.
fn topic(base: &Path, path: &Path) -> Result<String> {
    let relative = path.strip_prefix(base).unwrap_or(path);
    let mut parts = Vec::new();
    for part in relative.components() {
        match part {
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => parts.push(""),
            Component::ParentDir => parts.push(".."),
            Component::Normal(name) => parts.push(name.to_str().ok_or_else(|| {
                Error::Config(format!("the name of {} is not UTF-8; rename the file", path.display()))
            })?),
        }
    }
    Ok(parts.join("/"))
}

/// Keeps one of several paths to the same file: the one that is no link, or the first.
fn without_aliases(found: Vec<Found>) -> Result<Vec<Found>> {
    let mut by_file: BTreeMap<PathBuf, (bool, usize)> = BTreeMap::new();
    for (index, file) in found.iter().enumerate() {
        let real = fs::canonicalize(&file.path).doing(|| format!("cannot read {}", file.path.display()))?;
        let is_link = file.path.is_symlink();
        by_file.entry(real).and_modify(|kept| *kept = (*kept).min((is_link, index))).or_insert((is_link, index));
    }
    let mut kept: Vec<usize> = by_file.into_values().map(|(_, index)| index).collect();
    kept.sort_unstable();
    Ok(kept.into_iter().map(|index| found[index].clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, *file).unwrap();
        }
        folder
    }

    fn topics(folder: &Path, patterns: &[&str]) -> Result<Vec<String>> {
        let patterns: Vec<_> = patterns.iter().map(|p| (*p).to_owned()).collect();
        Ok(find(folder, &patterns)?.into_iter().map(|f| f.topic).collect())
    }

    #[test]
    fn files_come_sorted_and_once() {
        let folder = folder(&["in/b.json", "in/a.json", "in/c.txt", "in/.a.json.swp", "in/deep/d.json", "top.json"]);
        for (patterns, expected) in [
            (vec!["in/*.json"], vec!["in/a.json", "in/b.json"]),
            (vec!["in/b.json", "in/*.json", "./in/a.json"], vec!["in/a.json", "in/b.json"]),
            (vec!["in/*"], vec!["in/a.json", "in/b.json", "in/c.txt"]),
            (vec!["**/*.json"], vec!["in/a.json", "in/b.json", "in/deep/d.json", "top.json"]),
            (vec!["in/[ab].json", "top.json"], vec!["in/a.json", "in/b.json", "top.json"]),
            (vec!["none/*.json"], vec![]),
        ] {
            assert_eq!(topics(folder.path(), &patterns).unwrap(), expected, "{patterns:?}");
        }
        let absolute = format!("{}/in/a.json", folder.path().display());
        assert_eq!(topics(folder.path(), &[&absolute]).unwrap(), ["in/a.json"]);
        let outside = folder.path().join("elsewhere");
        assert_eq!(topics(&outside, &["../top.json"]).unwrap_err().blame(), crate::error::Blame::Config);
        assert_eq!(topics(&folder.path().join("in"), &["../top.json"]).unwrap(), ["../top.json"]);
    }

    #[test]
    fn a_named_file_must_exist_and_be_a_file() {
        let folder = folder(&["in/a.json"]);
        for (pattern, says) in
            [("b.json", "there is no file"), ("in", "is a folder; write in/*"), ("in/***", "is not a pattern")]
        {
            let error = topics(folder.path(), &[pattern]).unwrap_err();
            assert!(matches!(error, Error::Config(_)), "{error:?}");
            assert!(error.to_string().contains(says), "{error}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_link_is_read_unless_its_file_is_matched_too() {
        use std::os::unix::fs::symlink;
        let folder = folder(&["in/day.json", "other/far.json"]);
        symlink(folder.path().join("in/day.json"), folder.path().join("in/current.json")).unwrap();
        symlink(folder.path().join("other/far.json"), folder.path().join("in/far.json")).unwrap();
        assert_eq!(topics(folder.path(), &["in/*.json"]).unwrap(), ["in/day.json", "in/far.json"]);
        symlink(folder.path().join("nowhere"), folder.path().join("in/lost.json")).unwrap();
        assert!(topics(folder.path(), &["in/l*.json"]).unwrap_err().to_string().contains("lost.json"));
    }
}
