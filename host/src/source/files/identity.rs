//! How a file is known: by its digest and length. And whether it stayed the same while it was read.
//!
//! The digest is over the bytes as they are stored, compressed or not.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

/// Digest and length of a file; as text `sha256:<hex>:<length>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// SHA-256 of its bytes
    pub digest: [u8; 32],
    /// number of its bytes
    pub length: u64,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, ":{}", self.length)
    }
}

/// The length that the text of an identity names.
pub fn length_of(identity: &str) -> Option<u64> {
    identity.strip_prefix("sha256:")?.rsplit_once(':')?.1.parse().ok()
}

/// What the file system says about a file; it changes when somebody writes to the file or puts another in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    length: u64,
    modified: Option<std::time::SystemTime>,
    inode: (u64, u64),
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let inode = (std::os::unix::fs::MetadataExt::dev(metadata), std::os::unix::fs::MetadataExt::ino(metadata));
        #[cfg(not(unix))]
        let inode = (0, 0);
        Stamp { length: metadata.len(), modified: metadata.modified().ok(), inode }
    }
}

/// What one pass over a file tells, without making records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Survey {
    /// digest and length
    pub identity: Identity,
    /// the same before the pass and after it
    pub stamp: Stamp,
    /// number of its lines, where they were counted
    pub lines: Option<i64>,
}

/// Why a file could not be surveyed.
#[derive(Debug)]
pub enum SurveyError {
    /// asked to stop
    Stopped,
    /// it changed meanwhile
    Changed,
    /// it could not be read, or not decompressed
    Io(io::Error),
}

impl From<io::Error> for SurveyError {
    fn from(error: io::Error) -> Self {
        SurveyError::Io(error)
    }
}

/// Digest, length and lines of the file at `path`. The lines of a compressed file are counted only on demand, since
/// that means to decompress it.
pub fn survey(path: &Path, count_compressed: bool, stopping: &dyn Fn() -> bool) -> Result<Survey, SurveyError> {
    let file = File::open(path)?;
    let before = Stamp::from(&file.metadata()?);
    let format = Format::of(path);
    let counting = format == Format::Plain || count_compressed;
    let mut content = Content::new(file, if counting { format } else { Format::Plain }, Arc::default())?;
    let mut block = vec![0; 1 << 20];
    let (mut lines, mut last) = (0, b'\n');
    loop {
        if stopping() {
            return Err(SurveyError::Stopped);
        }
        let n = match content.read(&mut block) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        lines += memchr::memchr_iter(b'\n', &block[..n]).count() as i64;
        last = block[n - 1];
    }
    lines += i64::from(last != b'\n');
    let after = content.stamp()?;
    let identity = content.finish()?;
    if before != after || identity.length != after.length || Stamp::from(&std::fs::metadata(path)?) != before {
        return Err(SurveyError::Changed);
    }
    Ok(Survey { identity, stamp: after, lines: counting.then_some(lines) })
}

/// How a file is stored, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// as it is
    Plain,
    /// `.gz`, of one or several members
    Gzip,
    /// `.zst`, of one or several frames
    Zstd,
}

impl Format {
    /// The format that a path's extension names.
    pub fn of(path: &Path) -> Format {
        match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("gz") => Format::Gzip,
            Some("zst") => Format::Zstd,
            Some(_) | None => Format::Plain,
        }
    }
}

/// Counts and digests what is read from a file.
pub struct Digesting {
    file: File,
    digest: Sha256,
    length: u64,
    read: Arc<AtomicU64>,
}

impl Read for Digesting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.digest.update(&buffer[..n]);
        self.length += n as u64;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// The bytes of a file, decompressed, while those that are stored are digested.
pub enum Content {
    /// as they are
    Plain(Digesting),
    /// from gzip
    Gzip(Box<flate2::bufread::MultiGzDecoder<BufReader<Digesting>>>),
    /// from zstd
    Zstd(zstd::Decoder<'static, BufReader<Digesting>>),
}

impl Content {
    /// Reads `file` from its beginning; `read` counts the stored bytes.
    pub fn new(file: File, format: Format, read: Arc<AtomicU64>) -> io::Result<Content> {
        let stored = Digesting { file, digest: Sha256::new(), length: 0, read };
        let buffered = |stored| BufReader::with_capacity(256 << 10, stored);
        Ok(match format {
            Format::Plain => Content::Plain(stored),
            Format::Gzip => Content::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(buffered(stored)))),
            Format::Zstd => Content::Zstd(zstd::Decoder::with_buffer(buffered(stored))?),
        })
    }

    fn stored(&self) -> &Digesting {
        match self {
            Content::Plain(stored) => stored,
            Content::Gzip(decoder) => decoder.get_ref().get_ref(),
            Content::Zstd(decoder) => decoder.get_ref().get_ref(),
        }
    }

    /// What the file system says now about the file that is being read.
    pub fn stamp(&self) -> io::Result<Stamp> {
        Ok(Stamp::from(&self.stored().file.metadata()?))
    }

    /// Bytes read so far, as they are stored.
    pub fn stored_bytes_read(&self) -> u64 {
        self.stored().length
    }

    /// The identity, once the end has been read.
    pub fn finish(self) -> io::Result<Identity> {
        let mut stored = match self {
            Content::Plain(stored) => stored,
            Content::Gzip(decoder) => decoder.into_inner().into_inner(),
            Content::Zstd(decoder) => decoder.finish().into_inner(),
        };
        io::copy(&mut stored, &mut io::sink())?; // a decoder may have no use for the last bytes
        Ok(Identity { digest: stored.digest.finalize().into(), length: stored.length })
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Content::Plain(stored) => stored.read(buffer),
            Content::Gzip(decoder) => decoder.read(buffer),
            Content::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_is_of_the_stored_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        std::fs::write(&path, "abc").unwrap();
        let survey = survey(&path, false, &|| false).unwrap();
        let expected = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad:3";
        assert_eq!(survey.identity.to_string(), expected);
        assert_eq!(length_of(expected), Some(3));
        assert_eq!(length_of("T2Zm"), None);
    }

    #[test]
    fn lines_are_counted_as_they_are_cut() {
        let folder = tempfile::tempdir().unwrap();
        for (text, lines) in [("", 0), ("a", 1), ("a\n", 1), ("a\n\n", 2), ("\r\nb", 2)] {
            let plain = folder.path().join("a.json");
            std::fs::write(&plain, text).unwrap();
            assert_eq!(survey(&plain, false, &|| false).unwrap().lines, Some(lines), "{text:?}");
            let packed = folder.path().join("a.json.zst");
            std::fs::write(&packed, zstd::encode_all(text.as_bytes(), 1).unwrap()).unwrap();
            assert_eq!(survey(&packed, false, &|| false).unwrap().lines, None);
            let counted = survey(&packed, true, &|| false).unwrap();
            assert_eq!(counted.lines, Some(lines), "{text:?}");
            assert_eq!(counted.identity, survey(&packed, false, &|| false).unwrap().identity);
        }
    }
}
