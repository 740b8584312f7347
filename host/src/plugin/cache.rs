//! Compiled components on disk: private to this user, keyed by the code's digest and by everything the engine's
//! machine code depends on.
//!
//! What is in it is executed as it stands, so it is only ever written here, and nothing that a user names is read as
//! compiled code.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::component::Component;

/// First bytes of a file; what follows is the SHA-256 of the rest, and the rest.
const MAGIC: &[u8; 16] = b"sluice-compiled1";

/// A folder of compiled components.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    engine: String,
}

impl Cache {
    /// The cache in `folder`; `None`, with a line in the log, where the folder cannot be trusted.
    pub(super) fn open(folder: PathBuf, engine: &wasmtime::Engine) -> Option<Cache> {
        match private(&folder) {
            Ok(()) => {
                let mut hasher = Fingerprint(Sha256::new());
                engine.precompile_compatibility_hash().hash(&mut hasher);
                Some(Cache { folder, engine: hex(&hasher.0.finalize()[..8]) })
            }
            Err(e) => {
                tracing::warn!(folder = %folder.display(), error = %e, "compiled plugins are not kept");
                None
            }
        }
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{digest}-{}", self.engine))
    }

    /// A component that was compiled before; `None` where there is none, or where it was damaged.
    pub(super) fn get(&self, engine: &wasmtime::Engine, digest: &str) -> Option<Component> {
        let path = self.path(digest);
        let compiled = match read(&path) {
            Ok(compiled) => compiled,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
            Err(e) => {
                tracing::warn!(file = %path.display(), error = %e, "compiling a plugin again");
                return None;
            }
        };
        // SAFETY: the file was written by `put` of this user: the folder is ours and closed to others (checked in
        // `open`), its name carries the engine's fingerprint, and its digest was just compared.
        let component = unsafe { Component::deserialize(engine, compiled) };
        component.inspect_err(|e| tracing::warn!(file = %path.display(), error = %e, "compiling a plugin again")).ok()
    }

    /// Keeps a compiled component. A failure costs a compilation next time, and is only logged.
    pub(super) fn put(&self, digest: &str, component: &Component) {
        let path = self.path(digest);
        let write = || -> io::Result<()> {
            let compiled = component.serialize().map_err(|e| io::Error::other(format!("{e:#}")))?;
            // a name of our own, then a rename: another process never sees half a file
            let new = self.folder.join(format!("{digest}-{}.{}", self.engine, uuid::Uuid::new_v4()));
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            let written = file
                .write_all(MAGIC)
                .and_then(|()| file.write_all(&Sha256::digest(&compiled)))
                .and_then(|()| file.write_all(&compiled))
                .and_then(|()| fs::rename(&new, &path));
            if written.is_err() {
                let _ = fs::remove_file(&new); // the first failure is the one to tell
            }
            written
        };
        if let Err(e) = write() {
            tracing::warn!(file = %path.display(), error = %e, "a compiled plugin was not kept");
        }
    }
}

/// Makes `folder` where it is missing, and refuses one that others own or may write to.
fn private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let found = fs::symlink_metadata(folder)?;
    // SAFETY: geteuid has no preconditions
    let own = unsafe { libc::geteuid() };
    if !found.is_dir() || found.uid() != own {
        return Err(io::Error::other("it is not a folder of this user's own"));
    }
    if found.mode() & 0o022 != 0 {
        return Err(io::Error::other("others may write to it; chmod 700 it"));
    }
    if found.mode() & 0o077 != 0 {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut head = [0u8; MAGIC.len() + 32];
    file.read_exact(&mut head)?;
    let mut compiled = Vec::new();
    file.read_to_end(&mut compiled)?;
    let (magic, digest) = head.split_at(MAGIC.len());
    if magic != MAGIC || digest != Sha256::digest(&compiled).as_slice() {
        return Err(io::Error::other("it is damaged"));
    }
    Ok(compiled)
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}"); // writing into a String cannot fail
        out
    })
}

/// A hasher whose result is the same in every process, which std's does not promise.
struct Fingerprint(Sha256);

impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        unreachable!("the digest is taken whole")
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_is_not_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let whole = [&MAGIC[..], &Sha256::digest(b"code"), b"code"].concat();
        for (bytes, expected) in [
            (whole.clone(), Some(b"code".to_vec())),
            ([&whole[..], b"!"].concat(), None),
            (whole[..20].to_vec(), None),
            (vec![0; 100], None),
        ] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(read(&path).ok(), expected);
        }
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (mode, ok) in [(0o700, true), (0o755, true), (0o775, false), (0o777, false)] {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(private(folder.path()).is_ok(), ok, "{mode:o}");
        }
        let new = folder.path().join("a/b");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        private(&new).unwrap();
        assert_eq!(fs::metadata(&new).unwrap().mode() & 0o777, 0o700);
    }
}
