//! Mutations of inputs, the same ones for the same number. Blind: what guides a fuzzer to new code is in libFuzzer.

/// An endless run of inputs made of others.
pub struct Mutations<'a> {
    inputs: &'a [Vec<u8>],
    words: &'a [&'a str],
    state: u64,
    bytes_max: usize,
}

impl<'a> Mutations<'a> {
    /// Of `inputs`, by `seed`; none longer than `bytes_max`, but for inputs that are.
    pub fn new(inputs: &'a [Vec<u8>], words: &'a [&'a str], seed: u64, bytes_max: usize) -> Self {
        Self {
            inputs,
            words,
            state: seed,
            bytes_max,
        }
    }

    /// A number below `bound`, which is not 0. SplitMix64.
    fn below(&mut self, bound: usize) -> usize {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    fn input(&mut self) -> &'a [u8] {
        let n = self.below(self.inputs.len());
        &self.inputs[n]
    }

    /// One change.
    fn change(&mut self, b: &mut Vec<u8>) {
        let at = self.below(b.len() + 1);
        let span = self.below(9);
        let end = (at + span).min(b.len());
        match self.below(8) {
            0 if at < b.len() => b[at] ^= 1 << self.below(8),
            1 if at < b.len() => b[at] = [0, 1, 0x7F, 0x80, 0xFF, b'0', b' ', b'\n'][self.below(8)],
            2 => drop(b.drain(at..end)),
            3 => {
                let again = b[at..end].to_vec();
                drop(b.splice(at..at, again));
            }
            4 if !self.words.is_empty() => {
                let word = self.words[self.below(self.words.len())];
                drop(b.splice(at..at, word.bytes()));
            }
            5 => {
                let other = self.input();
                let from = self.below(other.len() + 1);
                let piece = &other[from..(from + self.below(33)).min(other.len())];
                drop(b.splice(at..end, piece.iter().copied()));
            }
            6 => b.truncate(at),
            _ => {
                let byte = self.below(256) as u8;
                b.insert(at, byte);
            }
        }
    }
}

impl Iterator for Mutations<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.inputs.is_empty() {
            return None;
        }
        let mut b = self.input().to_vec();
        let most = self.bytes_max.max(b.len());
        for _ in 0..=self.below(5) {
            self.change(&mut b);
        }
        b.truncate(most);
        Some(b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_number_makes_the_same_inputs_and_another_makes_others() {
        let inputs = [b"hello".to_vec(), Vec::new()];
        let some = |seed| {
            Mutations::new(&inputs, &["word"], seed, 20)
                .take(200)
                .collect::<Vec<_>>()
        };
        assert_eq!(some(1), some(1));
        assert_ne!(some(1), some(2));
        assert!(some(1).iter().all(|b| b.len() <= 20));
        assert!(some(1).iter().any(|b| b.windows(4).any(|w| w == b"word")));
    }
}
