//! Why a table cannot be read, in words for whoever has to mend it.
//!
//! It looks for what is plainly wrong in the table's log: a commit that is missing, or that is no JSON. It repairs nothing,
//! and where it finds nothing the library's own words must do.

use std::sync::Arc;

use deltalake::DeltaTableError;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::de::IgnoredAny;

use crate::config::Location;
use crate::error::Error;
use crate::store::{failed, shown};

/// The error of a table, with what its log says about it. `store` is rooted where the location's URL is.
pub async fn explain(
    doing: String,
    location: &Location,
    store: &Arc<dyn ObjectStore>,
    error: DeltaTableError,
) -> Error {
    let Ok(folder) = Path::from_url_path(location.url.path()) else { return Error::environment(doing, error) };
    let log = folder.join("_delta_log");
    let wrong = match wrong(store, &log).await {
        Ok(Some(wrong)) => wrong,
        // the store itself does not answer, or the log is whole
        Ok(None) | Err(_) => {
            return match error {
                // the library calls every error of a store one of reading the log, those of a commit as well
                DeltaTableError::ObjectStore { source } => failed(doing, source),
                other => Error::environment(doing, first_line(&other)),
            };
        }
    };
    let log = shown(&log);
    Error::environment(
        doing,
        format!("{wrong} in its log {log}; put it back from a copy. Nothing was written to the table"),
    )
}

/// Libraries put a backtrace behind their errors where `RUST_BACKTRACE` is set.
fn first_line(error: &DeltaTableError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// The first thing that is wrong with the commits after the last checkpoint.
async fn wrong(store: &Arc<dyn ObjectStore>, log: &Path) -> object_store::Result<Option<String>> {
    let listed: Vec<_> = store.list_with_delimiter(Some(log)).await?.objects;
    let names: Vec<&str> = listed.iter().filter_map(|object| object.location.filename()).collect();
    let version = |name: &str, end: &str| {
        let (digits, rest) = name.split_at_checked(20)?;
        rest.starts_with(end).then(|| digits.parse::<u64>().ok())?
    };
    let checkpoint = names.iter().filter_map(|name| version(name, ".checkpoint")).max();
    let mut commits: Vec<u64> = names.iter().filter_map(|name| version(name, ".json")).collect();
    commits.retain(|commit| checkpoint.is_none_or(|checkpoint| *commit > checkpoint));
    commits.sort_unstable();
    let mut next = checkpoint.map_or(0, |checkpoint| checkpoint + 1);
    for commit in commits {
        if commit != next {
            return Ok(Some(format!("{next:020}.json is missing")));
        }
        let text = store.get(&log.clone().join(format!("{commit:020}.json"))).await?.bytes().await?;
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        for (n, line) in lines.enumerate() {
            if serde_json::from_slice::<IgnoredAny>(line).is_err() {
                return Ok(Some(format!("{commit:020}.json is damaged from line {} on", n + 1)));
            }
        }
        next += 1;
    }
    Ok((next == 0).then(|| format!("{next:020}.json is missing")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    async fn check(files: &[(&str, &str)], expected: Option<&str>) {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        for (name, text) in files {
            store.put(&Path::from(format!("t/_delta_log/{name}")), text.as_bytes().to_vec().into()).await.unwrap();
        }
        let found = wrong(&store, &Path::from("t/_delta_log")).await.unwrap();
        assert_eq!(found.as_deref(), expected, "{files:?}");
    }

    #[tokio::test]
    async fn what_is_plainly_wrong_is_found() {
        let [zero, one, two] = [0, 1, 2].map(|n| format!("{n:020}.json"));
        let checkpoint = format!("{:020}.checkpoint.parquet", 1);
        let good = "{\"add\":1}\n{}\n";
        check(&[(&zero, good), (&one, good)], None).await;
        check(&[(&zero, good), (&two, good)], Some("00000000000000000001.json is missing")).await;
        check(&[(&one, good)], Some("00000000000000000000.json is missing")).await;
        check(&[(&checkpoint, "…"), (&two, good), ("_last_checkpoint", "{}")], None).await;
        check(&[(&zero, "{}\n{\"add\":"), (&one, good)], Some("00000000000000000000.json is damaged from line 2 on"))
            .await;
        check(&[], Some("00000000000000000000.json is missing")).await;
    }
}
