//! Bytes of one file on their way into an object store, written from a plain thread.
//!
//! It never holds a whole large file: full parts leave at once, one of them in flight while the next fills.

use std::future::Future;
use std::io::{self, Write};
use std::sync::Arc;

use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// Bytes of a part: the least that S3 takes.
const PART: usize = 5 << 20;

/// A file that becomes visible as a whole, or not at all.
///
/// A small one is a single put; a larger one a multipart upload. Dropping it aborts.
pub struct Upload {
    store: Arc<dyn ObjectStore>,
    path: Path,
    runtime: Handle,
    buffer: Vec<u8>,
    upload: Option<Box<dyn MultipartUpload>>,
    in_flight: Option<JoinHandle<object_store::Result<()>>>,
    written: u64,
}

impl Upload {
    /// An upload to `path`; nothing happens before the first part is full.
    pub fn new(store: Arc<dyn ObjectStore>, path: Path, runtime: Handle) -> Self {
        Upload { store, path, runtime, buffer: Vec::new(), upload: None, in_flight: None, written: 0 }
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Bytes held in memory.
    pub fn buffered(&self) -> usize {
        self.buffer.capacity() + if self.in_flight.is_some() { PART } else { 0 }
    }

    /// Makes the file visible, durably.
    pub fn complete(&mut self) -> object_store::Result<()> {
        let rest = PutPayload::from(std::mem::take(&mut self.buffer));
        let Some(mut upload) = self.upload.take() else {
            return self.runtime.block_on(self.store.put(&self.path, rest)).map(drop);
        };
        let in_flight = self.in_flight.take();
        let done = self.runtime.block_on(async {
            arrived(in_flight).await?;
            if rest.content_length() > 0 {
                upload.put_part(rest).await?;
            }
            upload.complete().await.map(drop)
        });
        if done.is_err() {
            self.upload = Some(upload); // so that dropping aborts it
        }
        done
    }

    fn send_part(&mut self) -> object_store::Result<()> {
        let part = PutPayload::from(std::mem::replace(&mut self.buffer, Vec::with_capacity(PART)));
        if self.upload.is_none() {
            self.upload = Some(self.runtime.block_on(self.store.put_multipart(&self.path))?);
        }
        let before = self.in_flight.take();
        self.runtime.block_on(arrived(before))?;
        if let Some(upload) = &mut self.upload {
            self.in_flight = Some(self.runtime.spawn(upload.put_part(part)));
        }
        Ok(())
    }
}

async fn arrived(part: Option<JoinHandle<object_store::Result<()>>>) -> object_store::Result<()> {
    match part {
        Some(part) => part.await?,
        None => Ok(()),
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PART - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        self.written += taken as u64;
        if self.buffer.len() == PART {
            self.send_part().map_err(io::Error::other)?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // parts leave when they are full; what is left leaves in `complete`
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(mut upload) = self.upload.take() else { return };
        let (in_flight, path) = (self.in_flight.take(), self.path.clone());
        run_detached(&self.runtime, async move {
            // a part that arrives after the abort could leave something behind
            let _ = arrived(in_flight).await;
            if let Err(error) = upload.abort().await {
                tracing::debug!(%path, %error, "an upload could not be aborted");
            }
        });
    }
}

/// Runs a clean-up to its end on a plain thread; within the runtime, where waiting is forbidden, beside everything else.
pub fn run_detached(runtime: &Handle, work: impl Future<Output = ()> + Send + 'static) {
    match Handle::try_current() {
        Ok(_) => drop(runtime.spawn(work)),
        Err(_) => runtime.block_on(work),
    }
}
