//! Memory that is read into, used again once everybody is done with what was in it.
//!
//! A block of its own for each read would often come from the system, cleared page by page, and not be in the processor's
//! cache.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Blocks that wait to be used again, at most.
const FREE: usize = 4;

/// Blocks of one size.
#[derive(Debug)]
pub struct Blocks {
    size: usize,
    free: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Blocks {
    /// None yet, of so many bytes.
    pub fn new(size: usize) -> Blocks {
        Blocks { size, free: Arc::default() }
    }

    /// An empty block, with room for all its bytes.
    pub fn take(&self) -> Vec<u8> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(|| Vec::with_capacity(self.size))
    }

    /// What was read, for many. Its memory comes back with the last of them; one that had to grow does not.
    pub fn share(&self, read: Vec<u8>) -> Bytes {
        match read.capacity() == self.size {
            true => Bytes::from_owner(Shared { read, free: self.free.clone() }),
            false => read.into(),
        }
    }
}

struct Shared {
    read: Vec<u8>,
    free: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.read
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let mut block = std::mem::take(&mut self.read);
        block.clear();
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < FREE {
            free.push(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_comes_back_with_the_last_of_its_users() {
        let blocks = Blocks::new(1000);
        let mut block = blocks.take();
        let at = block.as_ptr();
        block.extend(b"ab");
        let whole = blocks.share(block);
        let part = whole.slice(1..);
        drop(whole);
        let other = blocks.take();
        assert_ne!(other.as_ptr(), at, "it is still in use");
        assert_eq!(&part[..], b"b");
        drop(part);
        let again = blocks.take();
        assert_eq!((again.as_ptr(), again.len(), again.capacity()), (at, 0, 1000));
    }

    #[test]
    fn one_that_had_to_grow_does_not_come_back() {
        let blocks = Blocks::new(10);
        let mut block = blocks.take();
        block.extend([b'x'; 11]);
        drop(blocks.share(block));
        assert_eq!(blocks.free.lock().unwrap().len(), 0);
        let many: Vec<_> = (0..2 * FREE).map(|_| blocks.share(blocks.take())).collect();
        drop(many);
        assert_eq!(blocks.free.lock().unwrap().len(), FREE);
    }
}
