//! Local files behind a script that decides what becomes of each write: whether it lands, and whether that is said.
//!
//! Reads are always honest. A write that would fail anyway (the name is taken) says so, whatever the script wants.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use sluice_host::store::Durable;

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Lands,
    /// it is there, but the answer is an error
    LandsUnsaid,
    /// nothing is there
    Fails(io::ErrorKind),
}

/// Says what becomes of a write to a path.
type Script = Box<dyn FnMut(&Path) -> Fate + Send>;

/// The store.
pub struct Unsure {
    inner: Durable,
    script: Mutex<Script>,
}

impl Unsure {
    /// `script` is asked before each write.
    pub fn new(script: impl FnMut(&Path) -> Fate + Send + 'static) -> Arc<Unsure> {
        Arc::new(Unsure { inner: Durable::new(), script: Mutex::new(Box::new(script)) })
    }

    fn fate(&self, path: &Path) -> Fate {
        (self.script.lock().unwrap())(path)
    }
}

/// An entry of the ledger, or a commit in a table's log.
pub fn is_commit_point(path: &Path) -> bool {
    let path = path.as_ref();
    path.contains("/ledger/") || (path.contains("/_delta_log/") && path.ends_with(".json"))
}

fn error(path: &Path, kind: io::ErrorKind) -> object_store::Error {
    let why = io::Error::new(kind, format!("{path}: {kind}"));
    object_store::Error::Generic { store: "unsure", source: why.into() }
}

impl fmt::Debug for Unsure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unsure")
    }
}

impl fmt::Display for Unsure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unsure")
    }
}

#[async_trait]
impl ObjectStore for Unsure {
    async fn put_opts(&self, to: &Path, data: PutPayload, options: PutOptions) -> Result<PutResult> {
        match self.fate(to) {
            Fate::Lands => self.inner.put_opts(to, data, options).await,
            Fate::LandsUnsaid => {
                self.inner.put_opts(to, data, options).await?;
                Err(error(to, io::ErrorKind::TimedOut))
            }
            Fate::Fails(kind) => Err(error(to, kind)),
        }
    }
    async fn put_multipart_opts(&self, to: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        match self.fate(to) {
            Fate::Lands | Fate::LandsUnsaid => self.inner.put_multipart_opts(to, options).await,
            Fate::Fails(kind) => Err(error(to, kind)),
        }
    }
    async fn get_opts(&self, from: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(from, options).await
    }
    async fn get_ranges(&self, from: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(from, ranges).await
    }
    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }
    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
