//! How a file is known: by its digest and length. And whether it stayed the same while it was read.
//!
//! The digest is over the bytes as they are stored, compressed or not.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Digest and length of a file; as text `blake3:<hex>:<length>`.
///
/// Every byte of a file is digested once before any is judged, so the digest must be fast: SHA-256 was the dearest single
/// thing in judging a plain file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// BLAKE3 of its bytes
    pub digest: [u8; 32],
    /// number of its bytes
    pub length: u64,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("blake3:")?;
        self.digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, ":{}", self.length)
    }
}

/// The length that the text of an identity names.
pub fn length_of(identity: &str) -> Option<u64> {
    identity.strip_prefix("blake3:")?.rsplit_once(':')?.1.parse().ok()
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

/// When a file's bytes or its entry in the file system last changed: nobody can set that back, and a link or new rights
/// move it too. `None` where the system does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touched(Option<(i64, i64)>);

impl From<&Metadata> for Touched {
    fn from(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let at = {
            use std::os::unix::fs::MetadataExt;
            Some((metadata.ctime(), metadata.ctime_nsec()))
        };
        #[cfg(not(unix))]
        let at = None;
        Touched(at)
    }
}

impl Touched {
    /// Whether it lies so far back that a later write cannot leave it as it is, however coarse the file system's clock.
    fn is_settled(self) -> bool {
        const COARSEST: i64 = 2;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let Ok(now) = now else { return false };
        self.0.is_some_and(|(seconds, _)| now.as_secs() as i64 - seconds > COARSEST)
    }
}

/// What one pass over a file tells, without making records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Survey {
    /// digest and length
    pub identity: Identity,
    /// the same before the pass and after it
    pub stamp: Stamp,
    /// the same before the pass and after it, and long ago; `None` where that is not so
    pub untouched_since: Option<Touched>,
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
    let metadata = file.metadata()?;
    let (before, touched) = (Stamp::from(&metadata), Touched::from(&metadata));
    let was_settled = touched.is_settled();
    let format = Format::of(path);
    let counting = format == Format::Plain || count_compressed;
    let stored = Stored { file, digest: Some(Box::default()), length: 0, read: Arc::default() };
    let mut content = Content::new(stored, if counting { format } else { Format::Plain })?;
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
    let is_untouched = was_settled && content.touched()? == touched;
    let stored = content.finish()?;
    let digest = stored.digest.expect("a survey digests").finalize().into();
    let identity = Identity { digest, length: stored.length };
    if before != after || identity.length != after.length || Stamp::from(&std::fs::metadata(path)?) != before {
        return Err(SurveyError::Changed);
    }
    let untouched_since = is_untouched.then_some(touched);
    Ok(Survey { identity, stamp: after, untouched_since, lines: counting.then_some(lines) })
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

/// Counts what is read from a file, and digests it where that is needed.
pub struct Stored {
    file: File,
    digest: Option<Box<blake3::Hasher>>,
    length: u64,
    read: Arc<AtomicU64>,
}

impl Read for Stored {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        if let Some(digest) = &mut self.digest {
            digest.update(&buffer[..n]);
        }
        self.length += n as u64;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// The bytes of a file, decompressed.
pub enum Content {
    /// as they are
    Plain(Stored),
    /// from gzip
    Gzip(Box<flate2::bufread::MultiGzDecoder<BufReader<Stored>>>),
    /// from zstd
    Zstd(zstd::Decoder<'static, BufReader<Stored>>),
}

impl Content {
    /// Reads `file`, which was surveyed, from its beginning; `read` counts the stored bytes.
    ///
    /// They are digested a second time only where a change could go unnoticed otherwise: a digest is a quarter of all that
    /// a plain file costs.
    pub fn of(file: File, format: Format, survey: &Survey, read: Arc<AtomicU64>) -> io::Result<Content> {
        let digest = survey.untouched_since.is_none().then(Box::default);
        Content::new(Stored { file, digest, length: 0, read }, format)
    }

    fn new(stored: Stored, format: Format) -> io::Result<Content> {
        let buffered = |stored| BufReader::with_capacity(256 << 10, stored);
        Ok(match format {
            Format::Plain => Content::Plain(stored),
            Format::Gzip => Content::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(buffered(stored)))),
            Format::Zstd => Content::Zstd(zstd::Decoder::with_buffer(buffered(stored))?),
        })
    }

    fn stored(&self) -> &Stored {
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

    fn touched(&self) -> io::Result<Touched> {
        Ok(Touched::from(&self.stored().file.metadata()?))
    }

    /// Bytes read so far, as they are stored.
    pub fn stored_bytes_read(&self) -> u64 {
        self.stored().length
    }

    /// Whether all that was read, to its end, is what was surveyed; `None` where only another survey can tell.
    pub fn compare(self, survey: &Survey) -> io::Result<Option<bool>> {
        let touched = self.touched()?;
        let stored = self.finish()?;
        if stored.length != survey.identity.length {
            return Ok(Some(false));
        }
        Ok(match stored.digest {
            Some(digest) => Some(survey.identity.digest == <[u8; 32]>::from(digest.finalize())),
            None if survey.untouched_since == Some(touched) => Some(true),
            None => None,
        })
    }

    /// Reads what a decoder had no use for.
    fn finish(self) -> io::Result<Stored> {
        let mut stored = match self {
            Content::Plain(stored) => stored,
            Content::Gzip(decoder) => decoder.into_inner().into_inner(),
            Content::Zstd(decoder) => decoder.finish().into_inner(),
        };
        io::copy(&mut stored, &mut io::sink())?;
        Ok(stored)
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
        let expected = "blake3:6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85:3";
        assert_eq!(survey.identity.to_string(), expected);
        assert_eq!(length_of(expected), Some(3));
        assert_eq!(length_of("T2Zm"), None);
    }

    #[test]
    fn a_change_is_seen_with_and_without_a_second_digest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        let compare = |survey: &Survey| {
            let mut content = Content::of(File::open(&path).unwrap(), Format::Plain, survey, Arc::default()).unwrap();
            io::copy(&mut content, &mut io::sink()).unwrap();
            content.compare(survey).unwrap()
        };
        let written = |text: &str| {
            std::fs::write(&path, text).unwrap();
            survey(&path, false, &|| false).unwrap()
        };
        let fresh = written("abc");
        assert_eq!(fresh.untouched_since, None, "written a moment ago");
        assert_eq!(compare(&fresh), Some(true));
        std::fs::write(&path, "abd").unwrap();
        assert_eq!(compare(&fresh), Some(false));

        // as if it had been there for long
        let touched = |survey: Survey| Survey {
            untouched_since: Some(Touched::from(&std::fs::metadata(&path).unwrap())),
            ..survey
        };
        let old = touched(written("abc"));
        assert_eq!(compare(&old), Some(true));
        std::fs::hard_link(&path, folder.path().join("b.json")).unwrap();
        let moved = Survey { untouched_since: Some(Touched(Some((0, 0)))), ..old };
        assert_eq!(compare(&moved), None, "linked, or written: only another digest can tell");
        std::fs::write(&path, "abcd").unwrap();
        assert_eq!(compare(&old), Some(false));
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
