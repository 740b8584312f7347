//! Object stores: where ledger, generations and tables live, behind one interface.
//!
//! It knows nothing of what is stored. Local folders go through [`Durable`], since `object_store` never syncs: after a
//! power cut its "written" file may be empty, or its name gone. Other schemes are not available yet.

use std::sync::Arc;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreScheme};

use crate::config::Location;
use crate::error::{Error, Result};

mod disk;
mod durable;
mod leftover;

pub use durable::Durable;
pub use leftover::{Leftover, leftovers};

/// The store behind a location, rooted where the URL is (`/` for files), and the location's path within it.
///
/// Nothing is read or created; a folder that does not exist yet comes into being with the first object.
pub fn open(location: &Location) -> Result<(Arc<dyn ObjectStore>, Path)> {
    match ObjectStoreScheme::parse(&location.url) {
        Ok((ObjectStoreScheme::Local, path)) => Ok((Arc::new(Durable::new()), path)),
        Ok(_) => Err(Error::Config(format!(
            "`{}`: object stores ({}://) are not available yet; use a local folder",
            location.written,
            location.url.scheme()
        ))),
        Err(_) => Err(Error::Config(format!(
            "`{}` is not a place that can be stored to: `{}://` is no known scheme; use a local folder",
            location.written,
            location.url.scheme()
        ))),
    }
}

/// A path as a shell takes it: local stores, so far the only ones, are rooted at `/`.
pub fn shown(path: &Path) -> String {
    format!("/{path}")
}

/// Says what was tried when a store's call fails, without the store's own preamble.
pub fn failed(doing: impl std::fmt::Display, error: object_store::Error) -> Error {
    match error {
        object_store::Error::Generic { source, .. } => Error::environment(doing, source),
        other => Error::environment(doing, other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(url: &str) -> Location {
        Location { written: "${LAKE}/x".into(), url: url::Url::parse(url).unwrap() }
    }

    #[test]
    fn a_local_url_names_a_path_from_the_root() {
        for (url, path) in [("file:///tmp/lake/a", "tmp/lake/a"), ("file:///tmp/a%20b/", "tmp/a b"), ("file:///", "")] {
            assert_eq!(open(&location(url)).unwrap().1.as_ref(), path, "{url}");
        }
    }

    #[test]
    fn a_scheme_that_is_not_built_yet_is_refused_by_name() {
        for (url, said) in [("s3://bucket/x", "s3://) are not available yet"), ("xyz://a/b", "no known scheme")] {
            let text = open(&location(url)).unwrap_err().to_string();
            assert!(text.contains(said) && text.contains("${LAKE}/x"), "{text}");
        }
    }
}
