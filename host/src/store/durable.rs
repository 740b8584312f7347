//! A local file system whose "done" survives a power cut.
//!
//! An object is written to a temporary file beside its target, synced, given its name by a link (create) or a rename
//! (overwrite), and then the folder is synced: a name that can be seen has its whole content, and a name that was
//! answered for stays. "Already exists" is answered only after the folder is synced too, so that whoever lost a race may
//! rely on the winner. Temporaries are called `<target>#<digits>`, which `LocalFileSystem` neither lists nor opens.
//!
//! It never tidies up temporaries of a process that died ([`leftovers`](super::leftovers) finds them), and does not sync deletions: an
//! object that comes back after a power cut is an orphan, never a lie.

use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, RenameTargetMode, Result, UploadPart,
};

use super::disk::{Disk, DiskError};

/// The local file system, rooted at `/`, synced.
#[derive(Debug, Default)]
pub struct Durable {
    inner: LocalFileSystem,
    disk: Disk,
}

impl Durable {
    /// The whole file system.
    pub fn new() -> Self {
        Durable { inner: LocalFileSystem::new(), disk: Disk::default() }
    }
}

impl fmt::Display for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("local files, synced")
    }
}

/// Runs blocking steps off the async threads. They are finished even if the caller goes away.
async fn blocking<T: Send + 'static>(steps: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(steps).await?,
        Err(_) => steps(),
    }
}

fn folder_of(path: &FsPath) -> &FsPath {
    path.parent().unwrap_or(FsPath::new("/"))
}

/// How many times a folder is made for a file.
const FOLDERS: u32 = 3;

/// A new temporary file beside `target`, whose folder is made where it is missing.
fn temporary(disk: &Disk, target: &FsPath) -> Result<(File, PathBuf), DiskError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut made = 0;
    loop {
        // process id and counter keep live writers apart; what a dead process left is stepped over
        let unique = u64::from(std::process::id()) << 32 | (NEXT.fetch_add(1, Ordering::Relaxed) & 0xffff_ffff);
        let mut name = target.as_os_str().to_owned();
        name.push(format!("#{unique}"));
        let path = PathBuf::from(name);
        match disk.create(&path) {
            Ok(file) => return Ok((file, path)),
            Err(e) if e.source.kind() == std::io::ErrorKind::AlreadyExists => {}
            // another thread may have made the folder by now, or somebody taken it away again
            Err(e) if e.source.kind() == std::io::ErrorKind::NotFound && made < FOLDERS => {
                made += 1;
                disk.make_dirs(folder_of(target))?;
            }
            Err(e) => return Err(e),
        }
    }
}

/// Links a name that must be free. Where it is taken, its folder is synced before the answer: the caller relies on what
/// stands there.
fn link_settled(disk: &Disk, from: &FsPath, to: &FsPath) -> Result<(), DiskError> {
    let linked = disk.link(from, to);
    if linked.as_ref().is_err_and(|e| e.source.kind() == std::io::ErrorKind::AlreadyExists) {
        disk.sync_dir(folder_of(to))?;
    }
    linked
}

/// A temporary file that goes away unless it was given its name.
struct Staged {
    disk: Disk,
    path: PathBuf,
    target: PathBuf,
    named: bool,
}

impl Staged {
    fn new(disk: &Disk, target: PathBuf) -> Result<(File, Staged), DiskError> {
        let (file, path) = temporary(disk, &target)?;
        Ok((file, Staged { disk: disk.clone(), path, target, named: false }))
    }

    /// Gives synced content its name, durably.
    fn publish(mut self, create: bool) -> Result<(), DiskError> {
        let folder = folder_of(&self.target);
        if create {
            link_settled(&self.disk, &self.path, &self.target)?;
        } else {
            self.disk.rename(&self.path, &self.target)?;
            self.named = true;
        }
        self.disk.sync_dir(folder)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.named {
            // what stays behind is not listed and in nobody's way
            let _ = self.disk.remove(&self.path);
        }
    }
}

fn answer(file: &File) -> PutResult {
    use std::os::unix::fs::MetadataExt;
    // as LocalFileSystem makes them, so that an answer here compares with one from `head`
    let e_tag = file.metadata().ok().map(|m| {
        let micros = m
            .modified()
            .ok()
            .and_then(|t| t.duration_since(std::time::SystemTime::UNIX_EPOCH).ok())
            .unwrap_or_default()
            .as_micros();
        format!("{:x}-{micros:x}-{:x}", m.ino(), m.len())
    });
    PutResult { e_tag, version: None }
}

#[async_trait]
impl ObjectStore for Durable {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let create = match opts.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => {
                return Err(object_store::Error::NotImplemented {
                    operation: "conditional update".into(),
                    implementer: self.to_string(),
                });
            }
        };
        let target = self.inner.path_to_filesystem(location)?;
        let disk = self.disk.clone();
        blocking(move || {
            let (file, staged) = Staged::new(&disk, target)?;
            let mut offset = 0;
            for piece in payload.iter() {
                disk.write_at(&file, &staged.path, piece, offset)?;
                offset += piece.len() as u64;
            }
            disk.sync(&file, &staged.path)?;
            let answer = answer(&file);
            staged.publish(create)?;
            Ok(answer)
        })
        .await
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let target = self.inner.path_to_filesystem(location)?;
        let disk = self.disk.clone();
        let (file, staged) = blocking(move || Ok(Staged::new(&disk, target)?)).await?;
        Ok(Box::new(Upload {
            disk: self.disk.clone(),
            file: Arc::new(file),
            path: staged.path.clone(),
            staged: Some(staged),
            offset: 0,
            written: Arc::new(AtomicU64::new(0)),
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
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
        let (from, to) = (self.inner.path_to_filesystem(from)?, self.inner.path_to_filesystem(to)?);
        let disk = self.disk.clone();
        blocking(move || {
            disk.sync_path(&from)?;
            let (_, mut staged) = Staged::new(&disk, to)?;
            // the temporary's name is ours, so the link can take its place
            disk.remove(&staged.path)?;
            staged.named = true;
            disk.link(&from, &staged.path)?;
            staged.named = false;
            staged.publish(matches!(options.mode, CopyMode::Create))?;
            Ok(())
        })
        .await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let (from, to) = (self.inner.path_to_filesystem(from)?, self.inner.path_to_filesystem(to)?);
        let disk = self.disk.clone();
        blocking(move || {
            disk.sync_path(&from)?;
            disk.make_dirs(folder_of(&to))?;
            match options.target_mode {
                RenameTargetMode::Overwrite => disk.rename(&from, &to)?,
                RenameTargetMode::Create => link_settled(&disk, &from, &to)?,
            }
            disk.sync_dir(folder_of(&to))?;
            if options.target_mode == RenameTargetMode::Create {
                disk.remove(&from)?;
            }
            disk.sync_dir(folder_of(&from))?;
            Ok(())
        })
        .await
    }
}

/// A large object on its way: parts go to a temporary file, each at its own offset.
struct Upload {
    disk: Disk,
    file: Arc<File>,
    path: PathBuf,
    staged: Option<Staged>,
    offset: u64,
    /// bytes of the parts that were written, to refuse an object with a hole where a part failed or was never awaited
    written: Arc<AtomicU64>,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("path", &self.path).field("offset", &self.offset).finish_non_exhaustive()
    }
}

fn ended() -> object_store::Error {
    object_store::Error::Generic { store: "local", source: "this upload was completed or aborted before".into() }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let start = self.offset;
        self.offset += data.content_length() as u64;
        let (disk, file, path) = (self.disk.clone(), Arc::clone(&self.file), self.path.clone());
        let written = Arc::clone(&self.written);
        Box::pin(blocking(move || {
            let mut offset = start;
            for piece in data.iter() {
                disk.write_at(&file, &path, piece, offset)?;
                offset += piece.len() as u64;
            }
            written.fetch_add(offset - start, Ordering::AcqRel);
            Ok(())
        }))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let staged = self.staged.take().ok_or_else(ended)?;
        if self.written.load(Ordering::Acquire) != self.offset {
            return Err(object_store::Error::Generic {
                store: "local",
                source: format!("cannot complete {}: a part of it was not written", staged.target.display()).into(),
            });
        }
        let (disk, file) = (self.disk.clone(), Arc::clone(&self.file));
        blocking(move || {
            disk.sync(&file, &staged.path)?;
            let answer = answer(&file);
            staged.publish(false)?;
            Ok(answer)
        })
        .await
    }

    async fn abort(&mut self) -> Result<()> {
        let staged = self.staged.take().ok_or_else(ended)?;
        blocking(move || {
            drop(staged);
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests;
