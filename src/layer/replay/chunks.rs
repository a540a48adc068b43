//! [`Chunks`] stores copies of bytes, and never uses more memory than a limit.
//!
//! Each chunk is as long as all chunks before it. A single buffer would exist twice while it grows.

use std::collections::VecDeque;

use bytes::Bytes;

/// Copies of bytes, in chunks.
#[derive(Default)]
pub(super) struct Chunks {
    full: VecDeque<Bytes>,
    /// The chunk that has room.
    last: Vec<u8>,
    length: usize,
}

impl Chunks {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Stores a copy of these bytes. The caller has checked that they do not exceed the limit.
    pub(super) fn push(&mut self, bytes: &[u8], limit: usize) {
        let room = self.last.capacity() - self.last.len();
        let (first, more) = bytes.split_at(bytes.len().min(room));
        self.last.extend_from_slice(first);
        self.length += first.len();
        if more.is_empty() {
            return;
        }
        self.fill();
        // All chunks are full, so no memory is unused.
        let room = more.len().max(self.length);
        let left = limit.saturating_sub(self.length);
        self.last.reserve_exact(room.min(left).max(more.len()));
        self.last.extend_from_slice(more);
        self.length += more.len();
    }

    /// Returns the chunks in order.
    pub(super) fn into_chunks(mut self) -> VecDeque<Bytes> {
        self.fill();
        self.full
    }

    fn fill(&mut self) {
        if !self.last.is_empty() {
            self.full.push_back(std::mem::take(&mut self.last).into());
        }
    }
}

#[cfg(test)]
impl Chunks {
    /// Returns the size of the allocated memory.
    pub(super) fn capacity(&self) -> usize {
        let full: usize = self.full.iter().map(Bytes::len).sum();
        full + self.last.capacity()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn chunks_hold_all_bytes_within_the_limit(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..40),
            spare in 0..100usize,
        ) {
            let all = parts.concat();
            let limit = all.len() + spare;
            let mut chunks = Chunks::default();
            for part in &parts {
                chunks.push(part, limit);
                prop_assert!(chunks.capacity() <= limit);
            }
            prop_assert_eq!(chunks.len(), all.len());
            let all_chunks = chunks.into_chunks();
            prop_assert!(all_chunks.len() <= all.len().max(1).ilog2() as usize + 2);
            prop_assert_eq!(all_chunks.iter().flatten().copied().collect::<Vec<_>>(), all);
        }
    }
}
