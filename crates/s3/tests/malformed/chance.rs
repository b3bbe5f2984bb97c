//! Chance that comes out the same every time: SplitMix64.

pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(crate) fn of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }

    pub(crate) fn text(&mut self, alphabet: &[u8], len: usize) -> String {
        (0..len)
            .map(|_| char::from(alphabet[self.below(alphabet.len())]))
            .collect()
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    /// One random wound to `wire`, which must not be empty.
    pub(crate) fn wound(&mut self, wire: &mut Vec<u8>) {
        let at = self.below(wire.len());
        let end = (at + 1 + self.below(16)).min(wire.len());
        match self.below(6) {
            0 => wire[at] = self.next() as u8,
            1 => wire.insert(at, self.next() as u8),
            2 => drop(wire.drain(at..end)),
            3 => wire.truncate(at),
            4 => {
                let copy = wire[at..end].to_vec();
                wire.splice(at..at, copy);
            }
            _ => wire[at] ^= 1 << self.below(8),
        }
    }
}
