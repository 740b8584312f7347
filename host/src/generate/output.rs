//! Where generated records go: lines of a file or of standard output, or a topic; as fast as it can, or at a rate.

use std::fs::File;
use std::io::{BufWriter, Stdout, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use flate2::write::GzEncoder;

use super::Generated;
use crate::error::{Doing, Result};
use crate::source::kafka::produce::Producer;

/// Takes records until [`Output::finish`].
pub enum Output {
    /// one payload per line
    Lines {
        /// for messages
        name: String,
        /// where to
        writer: Writer,
    },
    /// payloads with their keys, partitions and times
    Topic(Producer),
}

/// A file by its extension, or standard output.
pub enum Writer {
    /// as it is
    Plain(BufWriter<File>),
    /// `.gz`
    Gzip(BufWriter<GzEncoder<File>>),
    /// `.zst`
    Zstd(BufWriter<zstd::Encoder<'static, File>>),
    /// `-`
    Stdout(BufWriter<Stdout>),
}

const BUFFER: usize = 1 << 18;

impl Output {
    /// A file, replaced if it exists; `-` is standard output.
    pub fn file(path: &Path) -> Result<Output> {
        let name = path.display().to_string();
        if name == "-" {
            let writer = Writer::Stdout(BufWriter::with_capacity(BUFFER, std::io::stdout()));
            return Ok(Output::Lines { name: "standard output".to_owned(), writer });
        }
        let file = File::create(path).doing(|| format!("cannot write {name}"))?;
        let writer = match path.extension().and_then(|extension| extension.to_str()) {
            Some("gz") => {
                Writer::Gzip(BufWriter::with_capacity(BUFFER, GzEncoder::new(file, flate2::Compression::fast())))
            }
            Some("zst") => {
                let encoder = zstd::Encoder::new(file, 1).doing(|| format!("cannot write {name}"))?;
                Writer::Zstd(BufWriter::with_capacity(BUFFER, encoder))
            }
            Some(_) | None => Writer::Plain(BufWriter::with_capacity(BUFFER, file)),
        };
        Ok(Output::Lines { name, writer })
    }

    /// Takes one record.
    pub fn put(&mut self, record: &Generated<'_>) -> Result<()> {
        match self {
            Output::Lines { name, writer } => writer.line(record.value).doing(|| format!("cannot write {name}")),
            Output::Topic(producer) => {
                producer.send(Some(record.key), Some(record.value), record.partition as i32, Some(record.timestamp))
            }
        }
    }

    /// Hands over what is buffered: to the disk, or acknowledged by the brokers.
    pub fn finish(self) -> Result<()> {
        match self {
            Output::Lines { name, writer } => writer.finish().doing(|| format!("cannot write {name}")),
            Output::Topic(producer) => producer.finish().map(drop),
        }
    }
}

impl Writer {
    fn line(&mut self, value: &[u8]) -> std::io::Result<()> {
        let out: &mut dyn Write = match self {
            Writer::Plain(out) => out,
            Writer::Gzip(out) => out,
            Writer::Zstd(out) => out,
            Writer::Stdout(out) => out,
        };
        out.write_all(value)?;
        out.write_all(b"\n")
    }

    fn finish(self) -> std::io::Result<()> {
        match self {
            Writer::Plain(out) => out.into_inner()?.sync_all(),
            Writer::Gzip(out) => out.into_inner()?.finish()?.sync_all(),
            Writer::Zstd(out) => out.into_inner()?.finish()?.sync_all(),
            Writer::Stdout(mut out) => out.flush(),
        }
    }
}

/// Holds a flow to a rate.
pub struct Pace {
    rate: Option<f64>,
    begun: Instant,
}

impl Pace {
    /// `rate` in records per second, `None` for as fast as it can.
    pub fn new(rate: Option<f64>) -> Pace {
        Pace { rate, begun: Instant::now() }
    }

    /// Waits until `records` may have gone out. Short waits are saved up, for no sleep is that exact.
    pub fn hold(&self, records: u64) {
        let Some(rate) = self.rate else { return };
        let due = Duration::from_secs_f64(records as f64 / rate);
        let ahead = due.saturating_sub(self.begun.elapsed());
        if ahead > Duration::from_millis(5) {
            std::thread::sleep(ahead);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::generate::{Spec, Visits};

    #[test]
    fn compressed_files_hold_the_same_lines() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let mut visits = Visits::new(Spec { records: 300, ..Spec::default() }).unwrap();
            let mut out = Output::file(&dir.path().join(name)).unwrap();
            while let Some(record) = visits.next() {
                out.put(&record).unwrap();
            }
            out.finish().unwrap();
            std::fs::read(dir.path().join(name)).unwrap()
        };
        let plain = write("v.ndjson");
        assert_eq!(plain.iter().filter(|byte| **byte == b'\n').count(), 300);
        let mut gunzipped = Vec::new();
        flate2::read::GzDecoder::new(write("v.ndjson.gz").as_slice()).read_to_end(&mut gunzipped).unwrap();
        assert_eq!(gunzipped, plain);
        assert_eq!(zstd::decode_all(write("v.ndjson.zst").as_slice()).unwrap(), plain);
    }
}
