//! From a key to its rows: a hash index over text that is already in memory.
//!
//! Buckets of eight rows and half a hash each, one cache line: a lookup touches one line and, where a half fits, one key.
//! It holds no keys of its own, and it never changes once it is built.

use std::hash::BuildHasher;

use crate::memory;

/// No row.
pub(super) const NONE: u32 = u32::MAX;

/// Rows of a bucket: with half a hash each they fill one cache line.
const BUCKET: usize = 8;

/// Keys per bucket that room is made for: half of it, so that one of twenty is full and sends a lookup to the next one.
const USUAL: usize = BUCKET / 2;

/// Keys that are looked up together: more than a core waits for at once, few enough that what is known of them stays in its
/// nearest cache.
const BLOCK: usize = 128;

/// Keys as bytes, by row.
pub(super) trait Keys {
    /// The bytes of a row's key.
    fn key(&self, row: u32) -> &[u8];
}

/// An index over the keys of some rows.
pub(super) struct Index<S> {
    buckets: Vec<Bucket>,
    hasher: S,
}

/// Filled from its first place on; a full one goes on in the next.
#[derive(Clone)]
#[repr(align(64))]
struct Bucket {
    /// of each row's key: the half of its hash that did not choose the bucket
    halves: [u32; BUCKET],
    /// [`NONE`] where there is none
    rows: [u32; BUCKET],
}

impl Bucket {
    const EMPTY: Bucket = Bucket { halves: [0; BUCKET], rows: [NONE; BUCKET] };

    /// The first place with this half, as a set of bits; it may be an empty one.
    fn places(&self, half: u32) -> u32 {
        self.halves.iter().enumerate().fold(0, |all, (n, one)| all | (u32::from(*one == half) << n))
    }

    fn is_full(&self) -> bool {
        self.rows[BUCKET - 1] != NONE
    }
}

impl<S: BuildHasher> Index<S> {
    /// An index for about `keys` distinct keys, and for less than twice as many.
    pub fn with_capacity(keys: usize, hasher: S) -> Self {
        let count = keys / USUAL + 1;
        let mut buckets = Vec::with_capacity(count);
        memory::in_huge_pages(buckets.spare_capacity_mut());
        buckets.resize(count, Bucket::EMPTY);
        Index { buckets, hasher }
    }

    /// The rows of the keys `asked`, in order; [`NONE`] where there is none, or no key.
    ///
    /// One step for a block of keys before the next step: first their buckets, then where their rows' keys are, then those
    /// keys. The cache misses of a step do not depend on each other, so that they overlap; one key after the other waits for
    /// three. Which keys go on from step to step is written without a branch, since nobody can predict who is found.
    pub fn find_all<'k>(&self, keys: &impl Keys, rows: usize, asked: impl Fn(usize) -> Option<&'k [u8]>) -> Vec<u32> {
        let mut all = vec![NONE; rows];
        let mut hashes = [0; BLOCK];
        let mut waiting = [Waiting { at: 0, bucket: 0 }; BLOCK];
        let mut candidates = [(0, NONE); BLOCK];
        let mut known: [&[u8]; BLOCK] = [&[]; BLOCK];
        for begin in (0..rows).step_by(BLOCK) {
            let block = rows.min(begin + BLOCK) - begin;
            let found = &mut all[begin..begin + block];
            let mut waits = 0;
            for (at, hash) in hashes[..block].iter_mut().enumerate() {
                let Some(key) = asked(begin + at) else { continue };
                *hash = self.hasher.hash_one(key);
                waiting[waits] = Waiting { at: at as u32, bucket: self.home(*hash) as u32 };
                waits += 1;
            }
            while waits > 0 {
                let touched =
                    waiting[..waits].iter().fold(0, |all, one| all ^ self.buckets[one.bucket as usize].halves[0]);
                std::hint::black_box(touched);
                let (mut likely, mut still) = (0, 0);
                for n in 0..waits {
                    let Waiting { at, bucket } = waiting[n];
                    let line = &self.buckets[bucket as usize];
                    let places = line.places(half(hashes[at as usize]));
                    candidates[likely] = (at, line.rows[places.trailing_zeros() as usize % BUCKET]);
                    likely += usize::from(places != 0);
                    waiting[still] = Waiting { at, bucket: self.after(bucket as usize) as u32 };
                    still += usize::from((places == 0) & line.is_full());
                }
                waits = still;
                for (known, (_, row)) in known.iter_mut().zip(&candidates[..likely]) {
                    *known = if *row == NONE { &[] } else { keys.key(*row) };
                }
                let ends = |key: &[u8]| key.first().copied().unwrap_or(0) ^ key.last().copied().unwrap_or(0);
                std::hint::black_box(known[..likely].iter().fold(0, |all, key| all ^ ends(key)));
                for (known, (at, row)) in known.iter().zip(&candidates[..likely]) {
                    let key = asked(begin + *at as usize).unwrap_or_default();
                    // where they differ, half of the hash was that of another key
                    let is_it = *row != NONE && same(known, key);
                    found[*at as usize] = if is_it { *row } else { self.find(keys, hashes[*at as usize], key) };
                }
            }
        }
        all
    }

    /// The row of a key, [`NONE`] where there is none.
    fn find(&self, keys: &impl Keys, hash: u64, key: &[u8]) -> u32 {
        self.place(keys, hash, key).map_or(NONE, |(bucket, n)| self.buckets[bucket].rows[n])
    }

    /// Makes `new` the row of its key, unless the key has a row: then it answers that one.
    ///
    /// There must be fewer keys in it than it has places.
    pub fn insert(&mut self, keys: &impl Keys, new: u32) -> Option<u32> {
        let key = keys.key(new);
        let hash = self.hasher.hash_one(key);
        match self.place(keys, hash, key) {
            Ok((bucket, n)) => Some(self.buckets[bucket].rows[n]),
            Err((bucket, n)) => {
                self.buckets[bucket].halves[n] = half(hash);
                self.buckets[bucket].rows[n] = new;
                None
            }
        }
    }

    /// Where a key is, or else where it belongs.
    fn place(&self, keys: &impl Keys, hash: u64, key: &[u8]) -> Result<(usize, usize), (usize, usize)> {
        let mut at = self.home(hash);
        loop {
            let bucket = &self.buckets[at];
            for (n, (one, row)) in bucket.halves.iter().zip(bucket.rows).enumerate() {
                if row == NONE {
                    return Err((at, n));
                }
                if *one == half(hash) && same(keys.key(row), key) {
                    return Ok((at, n));
                }
            }
            at = self.after(at);
        }
    }

    /// The bucket in which a key belongs.
    fn home(&self, hash: u64) -> usize {
        (((hash >> 32) * self.buckets.len() as u64) >> 32) as usize
    }

    /// The bucket in which a full one goes on.
    fn after(&self, bucket: usize) -> usize {
        if bucket + 1 == self.buckets.len() { 0 } else { bucket + 1 }
    }

    /// Bytes that it occupies.
    pub fn bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<Bucket>()
    }
}

/// A key that is being looked for: its place in the block, and the bucket where it may be.
#[derive(Clone, Copy)]
struct Waiting {
    at: u32,
    bucket: u32,
}

/// The half of a hash that does not choose the bucket.
fn half(hash: u64) -> u32 {
    hash as u32
}

/// Whether two keys are the same. Keys are short: a call that finds out how to compare them costs more than comparing.
fn same(a: &[u8], b: &[u8]) -> bool {
    let (Some(last), Some(other), true) = (a.last_chunk::<8>(), b.last_chunk::<8>(), a.len() == b.len()) else {
        return a == b;
    };
    let word = |bytes: &[u8; 8]| u64::from_ne_bytes(*bytes);
    let firsts = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
    // the last eight bytes overlap those before them
    firsts.fold(word(last) ^ word(other), |all, (a, b)| all | (word(a) ^ word(b))) == 0
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasherDefault, Hasher};

    use foldhash::fast::FixedState;

    use super::*;

    struct Texts(Vec<String>);

    impl Keys for Texts {
        fn key(&self, row: u32) -> &[u8] {
            self.0[row as usize].as_bytes()
        }
    }

    /// All keys in one bucket and alike, or all halves alike: what only chance would bring.
    #[derive(Default)]
    struct Alike(u64);

    impl Hasher for Alike {
        fn finish(&self) -> u64 {
            self.0
        }
        fn write(&mut self, _: &[u8]) {}
    }

    /// Every text but each third is in the index; what is asked for has a null at every fifth place.
    fn check(texts: Vec<String>, hasher: impl BuildHasher) {
        let texts = Texts(texts);
        let rows = texts.0.len();
        let there = |row: usize| !row.is_multiple_of(3);
        let mut index = Index::with_capacity(rows, hasher);
        for row in (0..rows).filter(|row| there(*row)) {
            assert_eq!(index.insert(&texts, row as u32), None);
            assert_eq!(index.insert(&texts, row as u32), Some(row as u32), "a second time it is there");
        }
        let asked = |row: usize| (!row.is_multiple_of(5)).then(|| texts.key(row as u32));
        let found = index.find_all(&texts, rows, asked);
        let expected: Vec<_> =
            (0..rows).map(|row| if there(row) && !row.is_multiple_of(5) { row as u32 } else { NONE }).collect();
        assert_eq!(found, expected);
    }

    fn numbers(n: usize) -> Vec<String> {
        (0..n).map(|n| format!("{}{n}", "key-of-some-length-".repeat(n % 3))).collect()
    }

    #[test]
    fn every_key_is_found_and_no_other() {
        for n in [0, 1, 7, BLOCK, BLOCK + 1, 10_000] {
            check(numbers(n), FixedState::with_seed(n as u64));
        }
    }

    #[test]
    fn keys_whose_hashes_are_alike_are_told_apart() {
        check(numbers(300), BuildHasherDefault::<Alike>::default());
    }

    #[test]
    fn keys_differ_by_one_byte_wherever_it_stands() {
        for length in 0..40 {
            let key: Vec<u8> = (0..length).collect();
            assert!(same(&key, &key.clone()));
            assert!(!same(&key, &[&key[..], &[0]].concat()));
            for at in 0..key.len() {
                let mut other = key.clone();
                other[at] ^= 0x40;
                assert!(!same(&key, &other), "{length} bytes, byte {at}");
            }
        }
    }
}
