//! Cuts a stream of bytes into batches of lines, without copying a line.
//!
//! A batch points into the block that was read. Only the beginning of a line whose end has not been read yet is copied,
//! into the next block. What a line means is not known here, nor where the bytes come from.

use std::io::{self, Read};

use bytes::Bytes;

use super::blocks::Blocks;
use crate::record::{RawRecord, Span};

/// Bounds of blocks, batches and lines.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// records of a batch at most
    pub records: usize,
    /// bytes of a block, and so of a batch, unless a single line is longer
    pub block: usize,
    /// bytes of the longest line that is kept whole
    pub line: usize,
    /// bytes kept of a longer one
    pub kept: usize,
}

impl Bounds {
    /// The bounds for payloads that are decoded up to `max_record` bytes.
    pub fn new(max_record: usize) -> Self {
        let block = 4 << 20; // ≥ 8192 records of usual size, and small enough to stay near the cache
        // what is not kept whole is a dead letter, so it must be longer than max_record also without a `\r` at its end
        let line = max_record.saturating_add(2).clamp(block, (1 << 30) + 2); // spans have 32 bits
        let kept = max_record.saturating_add(1).clamp(1 << 20, line); // enough to be dead for its size, not for its syntax
        Bounds { records: 8192, block, line, kept }
    }
}

/// Consecutive lines.
#[derive(Debug)]
pub struct LineBatch {
    /// number of the first line
    pub from: i64,
    /// one past the last line
    pub to: i64,
    /// one per line, all of range 0
    pub records: Vec<RawRecord>,
    /// what the records point into
    pub data: Bytes,
}

/// What came of reading on.
#[derive(Debug)]
pub enum Cut {
    /// lines
    Batch(LineBatch),
    /// the input has nothing at the moment (it answered [`io::ErrorKind::WouldBlock`])
    Idle,
    /// the input has ended, and every line of it was handed out
    End,
}

/// The input failed after `line` whole lines.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct ReadError {
    /// number of the line in which it failed
    pub line: i64,
    /// why
    pub source: io::Error,
}

/// The lines of an input, in batches.
pub struct Lines<R> {
    input: R,
    bounds: Bounds,
    blocks: Blocks,
    /// bytes read and not handed out; begins with line `line`
    carry: Vec<u8>,
    line: i64,
    /// lines before this one are counted, not handed out
    first: i64,
    /// the block that is being cut; begins with lines that were handed out
    block: Option<Block>,
    /// a line beyond the bound, to be handed out
    ready: Option<LineBatch>,
    long: Option<Long>,
    ended: bool,
}

impl<R: Read> Lines<R> {
    /// The lines of `input` from line `first` on; `input` begins with line 1.
    pub fn new(input: R, first: i64, bounds: Bounds) -> Self {
        Lines {
            input,
            bounds,
            blocks: Blocks::new(bounds.block),
            carry: Vec::new(),
            line: 1,
            first,
            block: None,
            ready: None,
            long: None,
            ended: false,
        }
    }

    /// The next batch.
    pub fn next(&mut self) -> Result<Cut, ReadError> {
        loop {
            if let Some(batch) = self.ready.take() {
                return Ok(Cut::Batch(batch));
            }
            if let Some(block) = self.block.take() {
                if let Some(batch) = self.cut(block) {
                    return Ok(Cut::Batch(batch));
                }
            } else if self.ended {
                return Ok(Cut::End);
            } else if !self.read_block()? {
                return Ok(Cut::Idle);
            }
        }
    }

    /// The number of the next line that will be cut; at the end, one past the last line.
    pub fn line(&self) -> i64 {
        self.line
    }

    /// The input, for what it knows beside its bytes.
    pub fn input(&self) -> &R {
        &self.input
    }

    /// The input, for what it knows after its end.
    pub fn into_input(self) -> R {
        self.input
    }

    /// Reads until a block is full, or the input ends or has no more for now; `false` where no line came of that.
    fn read_block(&mut self) -> Result<bool, ReadError> {
        if let Some(long) = self.long.take() {
            return self.skip_long(long);
        }
        let mut buffer = std::mem::take(&mut self.carry);
        if buffer.capacity() < self.bounds.block {
            let beginning = std::mem::replace(&mut buffer, self.blocks.take());
            buffer.extend(beginning);
        }
        let mut room = self.bounds.block;
        loop {
            let wanted = room.saturating_sub(buffer.len());
            let searched = buffer.len();
            let idle = match self.input.by_ref().take(wanted as u64).read_to_end(&mut buffer) {
                Ok(n) => {
                    self.ended = n < wanted;
                    false
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => true, // what was read is in the buffer
                Err(source) => {
                    let whole = memchr::memchr_iter(b'\n', &buffer).count();
                    return Err(ReadError { line: self.line + whole as i64, source });
                }
            };
            // what was carried over has no newline where it is a line's beginning, and some where it is a short rest
            let has_line = memchr::memrchr(b'\n', &buffer).is_some();
            if self.ended || has_line {
                self.block = Some(Block { data: self.blocks.share(buffer), start: 0, is_begun: false, idle });
                return Ok(true);
            }
            if idle {
                self.carry = buffer;
                return Ok(false);
            }
            if buffer.len() >= self.bounds.line {
                let (length, ends_with_cr) = (buffer.len() as u64, buffer.last() == Some(&b'\r'));
                buffer.truncate(self.bounds.kept);
                buffer.shrink_to_fit();
                return self.skip_long(Long { beginning: buffer, length, ends_with_cr });
            }
            room = (searched.max(room) * 2).min(self.bounds.line);
        }
    }

    /// Makes the next batch of a block's lines, and keeps the block where it may have more of them, or its rest; `None` where
    /// no line is left that should be handed out.
    fn cut(&mut self, mut block: Block) -> Option<LineBatch> {
        let data = block.data.clone();
        let mut open = Open { start: block.start, from: self.line, records: Vec::new() };
        if block.is_begun {
            open.records.reserve_exact(self.bounds.records); // most likely there are as many again
        }
        let mut start = block.start;
        for newline in memchr::memchr_iter(b'\n', &data[block.start..]).map(|at| block.start + at) {
            let end = if newline > start && data[newline - 1] == b'\r' { newline - 1 } else { newline };
            self.push(&mut open, start, end, None);
            start = newline + 1;
            if open.records.len() == self.bounds.records {
                (block.start, block.is_begun) = (start, true);
                self.block = Some(block);
                return self.close(open, start, &data);
            }
        }
        if self.ended {
            if start < data.len() {
                self.push(&mut open, start, data.len(), None);
            }
            self.close(open, data.len(), &data)
        } else if !block.is_begun || block.idle {
            self.carry = data[start..].to_vec();
            self.close(open, start, &data)
        } else {
            // a short rest of the block would make a small batch; copied, it becomes the beginning of a full one
            self.line = open.from;
            self.carry = data[open.start..].to_vec();
            None
        }
    }

    /// Reads past the end of a line that is longer than any bound, and makes a record of its beginning; `false` where the
    /// input has no more for now.
    fn skip_long(&mut self, mut long: Long) -> Result<bool, ReadError> {
        let mut scratch = vec![0; 256 << 10];
        loop {
            match self.input.read(&mut scratch) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(n) => match memchr::memchr(b'\n', &scratch[..n]) {
                    Some(newline) => {
                        let has_cr = if newline > 0 { scratch[newline - 1] == b'\r' } else { long.ends_with_cr };
                        long.length = long.length + newline as u64 - u64::from(has_cr);
                        self.carry = scratch[newline + 1..n].to_vec();
                        break;
                    }
                    None => {
                        long.length += n as u64;
                        long.ends_with_cr = scratch[n - 1] == b'\r';
                    }
                },
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.long = Some(long);
                    return Ok(false);
                }
                Err(source) => return Err(ReadError { line: self.line, source }),
            }
        }
        let data = Bytes::from(long.beginning);
        let mut open = Open { start: 0, from: self.line, records: Vec::new() };
        self.push(&mut open, 0, data.len(), Some(long.length));
        self.ready = self.close(open, data.len(), &data);
        Ok(true)
    }

    fn push(&mut self, open: &mut Open, start: usize, end: usize, truncated_from: Option<u64>) {
        if self.line >= self.first {
            open.records.push(RawRecord {
                range: 0,
                offset: self.line,
                timestamp: None,
                key: Span::NULL,
                value: Span { start: (start - open.start) as u32, len: (end - start) as u32 },
                headers: None,
                truncated_from,
            });
        } else {
            open.start = end; // a later batch need not hold the bytes of lines that are not in it
        }
        self.line += 1;
    }

    fn close(&self, open: Open, end: usize, data: &Bytes) -> Option<LineBatch> {
        let from = open.records.first()?.offset;
        Some(LineBatch { from, to: self.line, records: open.records, data: data.slice(open.start..end) })
    }
}

/// Whole lines, and perhaps the beginning of another, that were read at once.
struct Block {
    data: Bytes,
    /// everything before it was cut
    start: usize,
    /// whether a batch was cut from it
    is_begun: bool,
    /// whether the input had no more for the moment
    idle: bool,
}

/// A line beyond the bound whose end has not been read: what is kept of it, and its bytes so far.
struct Long {
    beginning: Vec<u8>,
    length: u64,
    ends_with_cr: bool,
}

/// A batch in the making: where it begins in the block, the line there, and its records.
struct Open {
    start: usize,
    from: i64,
    records: Vec<RawRecord>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Bounds = Bounds { records: 3, block: 16, line: 40, kept: 8 };

    /// Number, text and full length of a line.
    type Line = (i64, String, Option<u64>);

    /// Every line, the sizes of the batches, and the line after the last.
    fn cut(input: impl Read, first: i64, bounds: Bounds) -> (Vec<Line>, Vec<usize>, i64) {
        let mut lines = Lines::new(input, first, bounds);
        let (mut found, mut sizes, mut next) = (Vec::new(), Vec::new(), None);
        loop {
            match lines.next().unwrap() {
                Cut::Batch(batch) => {
                    assert_eq!(batch.to - batch.from, batch.records.len() as i64, "a line is missing in {batch:?}");
                    assert!(batch.records.len() <= bounds.records);
                    assert_eq!(batch.from, next.unwrap_or(batch.from), "batches are contiguous");
                    next = Some(batch.to);
                    sizes.push(batch.records.len());
                    for record in &batch.records {
                        let bytes = &batch.data[record.value.start as usize..][..record.value.len as usize];
                        let text = String::from_utf8(bytes.to_vec()).unwrap();
                        found.push((record.offset, text, record.truncated_from));
                    }
                }
                Cut::Idle => {}
                Cut::End => return (found, sizes, lines.line()),
            }
        }
    }

    fn texts(input: &str, bounds: Bounds) -> Vec<String> {
        cut(input.as_bytes(), 1, bounds).0.into_iter().map(|(_, text, _)| text).collect()
    }

    #[test]
    fn every_line_is_a_record_whatever_the_block() {
        for (input, expected) in [
            ("", vec![]),
            ("a", vec!["a"]),
            ("a\n", vec!["a"]),
            ("\n", vec![""]),
            ("\n\n", vec!["", ""]),
            ("a\n\nb", vec!["a", "", "b"]),
            ("a\r\nb\r\n", vec!["a", "b"]),
            ("\r\n\r", vec!["", "\r"]),
            ("a\rb\n", vec!["a\rb"]),
            ("0123456789\n0123456789\n0123456789\n", vec!["0123456789"; 3]),
            ("x\ny\nz\n1\n2\n3\n4\n", vec!["x", "y", "z", "1", "2", "3", "4"]),
            ("a line of thirty-nine bytes, and no mor\nb\n", vec!["a line of thirty-nine bytes, and no mor", "b"]),
        ] {
            for block in 1..24 {
                for records in 1..5 {
                    let found = texts(input, Bounds { records, block, line: 40.max(block), kept: 8 });
                    assert_eq!(found, expected, "{input:?} in blocks of {block}, {records} records a batch");
                }
            }
            assert_eq!(texts(input, Bounds::new(1 << 20)), expected, "{input:?} with the real bounds");
        }
    }

    #[test]
    fn lines_before_the_first_are_counted_only() {
        let (found, _, end) = cut("a\nb\nc\nd\n".as_bytes(), 3, SMALL);
        assert_eq!(found, [(3, "c".to_owned(), None), (4, "d".to_owned(), None)]);
        assert_eq!(end, 5);
        let (found, _, end) = cut("a\nb\n".as_bytes(), 3, SMALL);
        assert_eq!((found.len(), end), (0, 3));
    }

    #[test]
    fn a_line_beyond_the_bound_keeps_its_beginning_and_its_length() {
        for tail in ["\n", "\nb\n", ""] {
            let input = format!("a\n{}{tail}", "0123456789".repeat(10));
            let (found, _, _) = cut(input.as_bytes(), 1, SMALL);
            assert_eq!(found[0], (1, "a".to_owned(), None));
            assert_eq!(found[1], (2, "01234567".to_owned(), Some(100)));
            assert_eq!(found.get(2).map(|f| f.1.as_str()), tail.contains('b').then_some("b"));
        }
    }

    #[test]
    fn a_line_that_is_not_kept_whole_is_longer_than_a_record_may_be() {
        for max_record in [1 << 10, 6 << 20] {
            let bounds = Bounds::new(max_record);
            for over in [0, 1, 2] {
                let text = "x".repeat(max_record + over);
                let (found, _, _) = cut(format!("{text}\r\n{text}\ny").as_bytes(), 1, bounds);
                let lengths: Vec<_> = found.iter().map(|f| f.2.unwrap_or(f.1.len() as u64) as usize).collect();
                assert_eq!(lengths, [max_record + over, max_record + over, 1]);
                let whole = found.iter().take(2).all(|f| f.2.is_none());
                assert!(whole || over > 0, "a record of {max_record} bytes is cut off");
            }
            let (found, _, _) = cut("x".repeat(32 << 20).as_bytes(), 1, bounds);
            let (_, text, length) = &found[0];
            assert_eq!((text.len(), *length), (bounds.kept, Some(32 << 20)));
            assert!(text.len() > max_record, "it is dead for its size");
        }
    }

    #[test]
    fn a_block_is_cut_one_batch_at_a_time() {
        let bounds = Bounds::new(1 << 20);
        let input = vec![b'\n'; bounds.block];
        let mut lines = Lines::new(&input[..], 1, bounds);
        for n in 1..=8 {
            let Ok(Cut::Batch(batch)) = lines.next() else { panic!("batch {n}") };
            assert_eq!(batch.records.len(), bounds.records);
            assert_eq!(lines.line(), 1 + n * bounds.records as i64, "lines are numbered when they are cut");
        }
    }

    #[test]
    fn a_short_rest_of_a_block_joins_the_next_batch() {
        let input = "ab\n".repeat(100);
        let (_, sizes, _) = cut(input.as_bytes(), 1, SMALL);
        assert!(sizes[..sizes.len() - 1].iter().all(|n| *n == 3), "{sizes:?}");
    }

    /// Answers one byte at a time, with a pause after each.
    struct Dripping(&'static [u8], bool);

    impl Read for Dripping {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            match (self.1, self.0.split_first()) {
                (true, Some(_)) => Err(io::ErrorKind::WouldBlock.into()),
                (_, None) => Ok(0),
                (false, Some((byte, rest))) => {
                    buffer[0] = *byte;
                    self.0 = rest;
                    Ok(1)
                }
            }
        }
    }

    #[test]
    fn a_line_is_handed_out_as_soon_as_it_is_whole() {
        let (found, sizes, _) = cut(Dripping(b"one\ntwo\nthree", false), 1, SMALL);
        let texts: Vec<_> = found.iter().map(|f| f.1.as_str()).collect();
        assert_eq!(texts, ["one", "two", "three"]);
        assert_eq!(sizes, [1, 1, 1]);
    }

    #[test]
    fn a_failing_input_names_the_line() {
        struct Failing(bool);
        impl Read for Failing {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                if std::mem::replace(&mut self.0, true) {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                buffer[..4].copy_from_slice(b"a\nb\n");
                Ok(4)
            }
        }
        let error = Lines::new(Failing(false), 1, SMALL).next().unwrap_err();
        assert_eq!((error.line, error.source.kind()), (3, io::ErrorKind::UnexpectedEof));
    }
}
