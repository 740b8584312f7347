//! So many of a stream of unknown length, evenly spread over it, in one pass and bounded memory.

/// Keeps every k-th of what it is given, for the least power of two k that keeps enough room.
#[derive(Clone, Debug)]
pub struct Thin<T> {
    kept: Vec<(T, usize)>,
    stride: u64,
    seen: u64,
    bytes: usize,
    most: usize,
    most_bytes: usize,
}

impl<T> Thin<T> {
    /// At most `most` of them, and about `most_bytes` bytes; at least one.
    pub fn new(most: usize, most_bytes: usize) -> Self {
        Thin { kept: Vec::new(), stride: 1, seen: 0, bytes: 0, most: most.max(1), most_bytes }
    }

    /// Offers the next; `make` is called where it is kept, and says how many bytes it takes.
    pub fn offer(&mut self, make: impl FnOnce() -> (T, usize)) {
        let nth = self.seen;
        self.seen += 1;
        if !nth.is_multiple_of(self.stride) {
            return;
        }
        let (item, bytes) = make();
        self.bytes += bytes;
        self.kept.push((item, bytes));
        while self.kept.len() > 1 && (self.kept.len() > self.most || self.bytes > self.most_bytes) {
            self.stride *= 2;
            let mut nth = 0;
            self.kept.retain(|_| {
                nth += 1;
                nth % 2 == 1
            });
            self.bytes = self.kept.iter().map(|(_, bytes)| bytes).sum();
        }
    }

    /// How many were offered.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// One in so many was kept.
    pub fn stride(&self) -> u64 {
        self.stride
    }

    /// What was kept, in order.
    pub fn into_kept(self) -> Vec<T> {
        self.kept.into_iter().map(|(item, _)| item).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(most: usize, most_bytes: usize, of: u64) -> Vec<u64> {
        let mut thin = Thin::new(most, most_bytes);
        (0..of).for_each(|n| thin.offer(|| (n, 10)));
        assert_eq!(thin.seen(), of);
        thin.into_kept()
    }

    #[test]
    fn what_is_kept_is_spread_evenly_and_bounded() {
        assert_eq!(kept(4, 1000, 4), [0, 1, 2, 3]);
        assert_eq!(kept(4, 1000, 5), [0, 2, 4]);
        assert_eq!(kept(4, 1000, 100), [0, 32, 64, 96]);
        assert_eq!(kept(100, 40, 100), [0, 32, 64, 96], "bytes bound it, too");
        assert_eq!(kept(0, 0, 3).len(), 1);
        let many = kept(10_000, usize::MAX, 1_000_000);
        assert!((5_000..=10_000).contains(&many.len()), "{}", many.len());
    }
}
