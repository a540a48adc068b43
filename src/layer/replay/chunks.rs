//! What is kept of a body: copies of its bytes, never more memory than a limit.
//!
//! They stand in pieces, each as long as all before it. One run of bytes that grows would, whenever it moves, be there twice.

use std::collections::VecDeque;

use bytes::Bytes;

/// Copies of bytes, in pieces.
#[derive(Default)]
pub(super) struct Copies {
    full: VecDeque<Bytes>,
    /// The one that has room.
    last: Vec<u8>,
    length: usize,
}

impl Copies {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Keeps these bytes too. There is memory for them within the limit: the caller has looked.
    pub(super) fn push(&mut self, bytes: &[u8], limit: usize) {
        let room = self.last.capacity() - self.last.len();
        let (here, further) = bytes.split_at(bytes.len().min(room));
        self.last.extend_from_slice(here);
        self.length += here.len();
        if further.is_empty() {
            return;
        }
        self.fill();
        // Every piece is full, so all the memory there is holds bytes.
        let room = further.len().max(self.length);
        let left = limit.saturating_sub(self.length);
        self.last.reserve_exact(room.min(left).max(further.len()));
        self.last.extend_from_slice(further);
        self.length += further.len();
    }

    /// The pieces, in their order.
    pub(super) fn into_pieces(mut self) -> VecDeque<Bytes> {
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
impl Copies {
    /// The memory that is held for bytes.
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
        fn what_is_kept_is_what_came_and_its_memory_stays_within_the_limit(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..40),
            spare in 0..100usize,
        ) {
            let all = parts.concat();
            let limit = all.len() + spare;
            let mut copies = Copies::default();
            for part in &parts {
                copies.push(part, limit);
                prop_assert!(copies.capacity() <= limit);
            }
            prop_assert_eq!(copies.len(), all.len());
            let pieces = copies.into_pieces();
            prop_assert!(pieces.len() <= all.len().max(1).ilog2() as usize + 2);
            prop_assert_eq!(pieces.iter().flatten().copied().collect::<Vec<_>>(), all);
        }
    }
}
