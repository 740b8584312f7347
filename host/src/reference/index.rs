//! From a key to its rows: a hash index over text that is already in memory.
//!
//! Open addressing over one flat table of 8-byte slots, half a hash and a row each: a lookup touches one slot and, where
//! the half fits, one key. It holds no keys of its own, and it never changes once it is built.

use std::hash::BuildHasher;

/// No row.
pub(super) const NONE: u32 = u32::MAX;

/// An empty slot; no row has this number.
const EMPTY: u64 = u64::MAX;

/// Slots are at most this full, in eighths: 5 of 8 keeps probes short at 13–26 bytes a key.
const FULL_EIGHTHS: usize = 5;

/// Keys that are looked up together: more than a core waits for at once, few enough that their lines stay in its nearest cache.
const BLOCK: usize = 128;

/// Keys as bytes, by row.
pub(super) trait Keys {
    /// The bytes of a row's key.
    fn key(&self, row: u32) -> &[u8];
}

/// An index over the keys of some rows.
pub(super) struct Index<S> {
    slots: Vec<u64>,
    hasher: S,
}

impl<S: BuildHasher> Index<S> {
    /// An index for at most `keys` distinct keys.
    pub fn with_capacity(keys: usize, hasher: S) -> Self {
        let slots = (keys * 8 / FULL_EIGHTHS + 1).next_power_of_two();
        Index { slots: vec![EMPTY; slots], hasher }
    }

    /// The hash of a key, for [`Index::find`] and [`Index::insert`].
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The rows of the keys `asked`, in order, added to `found`; [`NONE`] where there is none, or no key.
    ///
    /// One step for a block of keys before the next step: first slots, then where their rows' keys are, then those keys. The
    /// cache misses of a step do not depend on each other, so that they overlap; one key after the other waits for three.
    pub fn find_all<'k>(
        &self,
        keys: &impl Keys,
        rows: usize,
        asked: impl Fn(usize) -> Option<&'k [u8]>,
        found: &mut Vec<u32>,
    ) {
        let mask = self.slots.len() - 1;
        let mut hashes = [0; BLOCK];
        let mut first = [EMPTY; BLOCK];
        let mut known: [&[u8]; BLOCK] = [&[]; BLOCK];
        for begin in (0..rows).step_by(BLOCK) {
            let block = rows.min(begin + BLOCK) - begin;
            for (row, hash) in hashes[..block].iter_mut().enumerate() {
                *hash = asked(begin + row).map_or(0, |key| self.hash(key));
            }
            for (slot, hash) in first[..block].iter_mut().zip(&hashes) {
                *slot = self.slots[place(*hash) & mask];
            }
            for (slot, hash) in first[..block].iter_mut().zip(&hashes) {
                let mut at = place(*hash) & mask;
                while *slot != EMPTY && half(*slot) != half(*hash) {
                    at = (at + 1) & mask;
                    *slot = self.slots[at];
                }
            }
            for (known, slot) in known[..block].iter_mut().zip(&first) {
                *known = if *slot == EMPTY { &[] } else { keys.key(row(*slot)) };
            }
            let touched = known[..block].iter().fold(0, |all, known| all ^ known.first().copied().unwrap_or(0));
            std::hint::black_box(touched);
            for (i, (slot, hash)) in first[..block].iter().zip(&hashes).enumerate() {
                found.push(match asked(begin + i) {
                    Some(key) if *slot != EMPTY && known[i] == key => row(*slot),
                    // half of the hash was that of another key
                    Some(key) if *slot != EMPTY => self.find(keys, *hash, key),
                    Some(_) | None => NONE,
                });
            }
        }
    }

    /// The row of a key, [`NONE`] where there is none.
    pub fn find(&self, keys: &impl Keys, hash: u64, key: &[u8]) -> u32 {
        let mask = self.slots.len() - 1;
        let mut at = place(hash) & mask;
        loop {
            let slot = self.slots[at];
            if slot == EMPTY {
                return NONE;
            }
            if half(slot) == half(hash) && keys.key(row(slot)) == key {
                return row(slot);
            }
            at = (at + 1) & mask;
        }
    }

    /// Makes `new` the row of its key, unless the key has a row: then it answers that one.
    pub fn insert(&mut self, keys: &impl Keys, new: u32) -> Option<u32> {
        let key = keys.key(new);
        let hash = self.hash(key);
        let mask = self.slots.len() - 1;
        let mut at = place(hash) & mask;
        loop {
            let slot = self.slots[at];
            if slot == EMPTY {
                self.slots[at] = (u64::from(half(hash)) << 32) | u64::from(new);
                return None;
            }
            if half(slot) == half(hash) && keys.key(row(slot)) == key {
                return Some(row(slot));
            }
            at = (at + 1) & mask;
        }
    }

    /// Bytes that it occupies.
    pub fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<u64>()
    }
}

/// Where probing begins: not the half that slots keep, or neighbours would all look alike.
fn place(hash: u64) -> usize {
    hash as u32 as usize
}

fn half(slot_or_hash: u64) -> u32 {
    (slot_or_hash >> 32) as u32
}

fn row(slot: u64) -> u32 {
    slot as u32
}
