//! Memory that a disk takes bytes from without copying them: it begins, and is, whole pages.

use types::limits::DIRECT_BYTES;

/// A buffer to be written past the page cache. Made once, used again.
#[derive(Default)]
pub struct Aligned {
    /// A page longer than what it holds, so that it has a place where one begins.
    memory: Vec<u8>,
    begin: usize,
    length: usize,
}

impl Aligned {
    /// Makes it hold `parts`, one behind the other.
    ///
    /// # Panics
    /// Where these are not whole pages together.
    pub fn hold(&mut self, parts: [&[u8]; 2]) {
        let (first, second) = self
            .make(parts[0].len() + parts[1].len())
            .split_at_mut(parts[0].len());
        first.copy_from_slice(parts[0]);
        second.copy_from_slice(parts[1]);
    }

    /// Makes it hold `length` bytes, whatever they are: the caller's to write, all of them.
    ///
    /// # Panics
    /// Where these are not whole pages.
    pub fn make(&mut self, length: usize) -> &mut [u8] {
        assert!(length.is_multiple_of(DIRECT_BYTES), "whole pages");
        self.length = length;
        if self.memory.len() < length + DIRECT_BYTES {
            self.memory = vec![0; length + DIRECT_BYTES];
            self.begin = self.memory.as_ptr().align_offset(DIRECT_BYTES);
        }
        &mut self.memory[self.begin..self.begin + length]
    }

    /// What it holds.
    pub fn bytes(&self) -> &[u8] {
        &self.memory[self.begin..self.begin + self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_with_a_page_whatever_it_held() {
        let mut buffer = Aligned::default();
        for (first, second) in [
            (1, DIRECT_BYTES - 1),
            (0, 0),
            (5 * DIRECT_BYTES, 0),
            (7, 2 * DIRECT_BYTES - 7),
        ] {
            buffer.hold([&vec![1; first], &vec![2; second]]);
            assert!(buffer.bytes().is_empty() || buffer.bytes().as_ptr().align_offset(DIRECT_BYTES) == 0);
            assert_eq!(buffer.bytes(), [vec![1; first], vec![2; second]].concat());
        }
    }
}
