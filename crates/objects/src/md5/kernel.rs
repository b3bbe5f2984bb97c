//! MD5 of several bodies at once: each in a lane of one core's vector registers (RFC 1321).
//!
//! MD5 is one chain of steps, each of which waits for the one before: one body leaves most of a core idle, and no cleverness with one
//! body changes that. Lanes do the same steps for other bodies in the same time. Blocks come in as rows of 16 words, one a body, and are
//! turned so that each register has one word of every body.
//!
//! Not here: what a body is, how it ends, which bodies go together (`lanes`). The only unsafe code of this room.

#![allow(
    unsafe_code,
    reason = "vector instructions, behind a check that the machine has them"
)]

/// Bytes that a step of MD5 takes in.
pub(crate) const BLOCK: usize = 64;
/// Bodies that the widest kernel takes at once.
pub(crate) const LANES_MAX: usize = 16;

/// The four words that MD5 carries from block to block.
pub(crate) type State = [u32; 4];

/// Which instructions there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// One body after the other.
    Single,
    /// Eight at once.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Sixteen at once.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Kernel {
    /// The widest of this machine.
    pub(crate) fn detect() -> Self {
        Self::all().last().copied().unwrap_or(Self::Single)
    }

    /// All that this machine has, the widest last.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = vec![Self::Single];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                all.push(Self::Avx2);
            }
            if is_x86_feature_detected!("avx512f") {
                all.push(Self::Avx512);
            }
        }
        all
    }

    /// How many bodies it takes at once.
    pub(crate) fn width(self) -> usize {
        match self {
            Self::Single => 1,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => 8,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => 16,
        }
    }

    /// How many bodies there must be for lanes to be faster than one after the other: a lane's step takes two to three times as long.
    fn pays_from(self) -> usize {
        match self {
            Self::Single => usize::MAX,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => 4,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => 3,
        }
    }

    /// Takes the first `blocks` blocks of each body into its state.
    ///
    /// # Panics
    /// Where there are more bodies than lanes, or one is too short.
    pub(crate) fn compress(self, states: &mut [State], bodies: &[&[u8]], blocks: usize) {
        assert!(
            states.len() == bodies.len() && bodies.len() <= self.width(),
            "a lane a body"
        );
        assert!(
            bodies.iter().all(|body| body.len() / BLOCK >= blocks),
            "a body has its blocks"
        );
        if bodies.len() < self.pays_from() {
            for (state, body) in states.iter_mut().zip(bodies) {
                single(state, &body[..blocks * BLOCK]);
            }
            return;
        }
        match self {
            Self::Single => unreachable!("it never pays"),
            // SAFETY: `Self::all`, the only maker of these, has seen that the machine has the instructions. Each body has `blocks`
            // blocks, asserted above, and there are 1 to `width` of them.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2::compress(states, bodies, blocks) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512::compress(states, bodies, blocks) },
        }
    }
}

/// Takes whole blocks of one body.
pub(crate) fn single(state: &mut State, blocks: &[u8]) {
    md5_simd::hazmat::compress_blocks(state, blocks);
}

/// The constants of the 64 steps: `floor(2^32 * |sin(i + 1)|)`.
#[cfg(target_arch = "x86_64")]
use md5_simd::K;

/// The sixteen steps of one round: `$f` of the round, then how it goes through the words of a block, and its four rotations.
#[cfg(target_arch = "x86_64")]
macro_rules! round {
    ($f:ident, $round:literal, ($mul:literal, $add:literal), ($s0:literal, $s1:literal, $s2:literal, $s3:literal),
     $m:ident, ($a:ident, $b:ident, $c:ident, $d:ident)) => {
        round!(@four $f, $round, 0, ($mul, $add), ($s0, $s1, $s2, $s3), $m, ($a, $b, $c, $d));
        round!(@four $f, $round, 4, ($mul, $add), ($s0, $s1, $s2, $s3), $m, ($a, $b, $c, $d));
        round!(@four $f, $round, 8, ($mul, $add), ($s0, $s1, $s2, $s3), $m, ($a, $b, $c, $d));
        round!(@four $f, $round, 12, ($mul, $add), ($s0, $s1, $s2, $s3), $m, ($a, $b, $c, $d));
    };
    (@four $f:ident, $round:literal, $i:literal, $walk:tt, ($s0:literal, $s1:literal, $s2:literal, $s3:literal),
     $m:ident, ($a:ident, $b:ident, $c:ident, $d:ident)) => {
        round!(@step $f, $round, $i, $walk, $s0, $m, ($a, $b, $c, $d));
        round!(@step $f, $round, $i + 1, $walk, $s1, $m, ($d, $a, $b, $c));
        round!(@step $f, $round, $i + 2, $walk, $s2, $m, ($c, $d, $a, $b));
        round!(@step $f, $round, $i + 3, $walk, $s3, $m, ($b, $c, $d, $a));
    };
    // What does not wait for the step before comes first: the chain is the function, an addition, a rotation, an addition.
    (@step $f:ident, $round:literal, $i:expr, ($mul:literal, $add:literal), $s:literal,
     $m:ident, ($a:ident, $b:ident, $c:ident, $d:ident)) => {
        let ready = add(add($a, splat(K[$round * 16 + $i])), $m[($mul * ($i) + $add) % 16]);
        $a = add(rotate::<$s>(add($f($b, $c, $d), ready)), $b);
    };
}

/// All of a block: `$m` its words, `$state` the four words of every lane.
#[cfg(target_arch = "x86_64")]
macro_rules! block {
    ($m:ident, $state:ident) => {{
        let [mut a, mut b, mut c, mut d] = $state;
        round!(f, 0, (1, 0), (7, 12, 17, 22), $m, (a, b, c, d));
        round!(g, 1, (5, 1), (5, 9, 14, 20), $m, (a, b, c, d));
        round!(h, 2, (3, 5), (4, 11, 16, 23), $m, (a, b, c, d));
        round!(i, 3, (7, 0), (6, 10, 15, 21), $m, (a, b, c, d));
        $state = [
            add($state[0], a),
            add($state[1], b),
            add($state[2], c),
            add($state[3], d),
        ];
    }};
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::{BLOCK, K, State};
    use std::arch::x86_64::*;

    const LANES: usize = 16;
    type Words = __m512i;

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn add(a: Words, b: Words) -> Words {
        _mm512_add_epi32(a, b)
    }
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn splat(word: u32) -> Words {
        _mm512_set1_epi32(word.cast_signed())
    }
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn rotate<const BITS: i32>(a: Words) -> Words {
        _mm512_rol_epi32::<BITS>(a)
    }
    // The third operand's bits pick from the truth tables of RFC 1321's functions.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn f(b: Words, c: Words, d: Words) -> Words {
        _mm512_ternarylogic_epi32::<0xca>(b, c, d)
    }
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn g(b: Words, c: Words, d: Words) -> Words {
        _mm512_ternarylogic_epi32::<0xe4>(b, c, d)
    }
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn h(b: Words, c: Words, d: Words) -> Words {
        _mm512_ternarylogic_epi32::<0x96>(b, c, d)
    }
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn i(b: Words, c: Words, d: Words) -> Words {
        _mm512_ternarylogic_epi32::<0x39>(b, c, d)
    }

    /// Rows become columns: word `w` of row `r` becomes word `r` of row `w`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn turn(rows: [Words; LANES]) -> [Words; LANES] {
        let zero = _mm512_setzero_si512();
        let (mut pairs, mut quads) = ([zero; LANES], [zero; LANES]);
        for n in 0..8 {
            pairs[2 * n] = _mm512_unpacklo_epi32(rows[2 * n], rows[2 * n + 1]);
            pairs[2 * n + 1] = _mm512_unpackhi_epi32(rows[2 * n], rows[2 * n + 1]);
        }
        for n in 0..4 {
            let p = 4 * n;
            quads[p] = _mm512_unpacklo_epi64(pairs[p], pairs[p + 2]);
            quads[p + 1] = _mm512_unpackhi_epi64(pairs[p], pairs[p + 2]);
            quads[p + 2] = _mm512_unpacklo_epi64(pairs[p + 1], pairs[p + 3]);
            quads[p + 3] = _mm512_unpackhi_epi64(pairs[p + 1], pairs[p + 3]);
        }
        // `quads[4n + w]` has, in each of its four parts, word `4 * part + w` of rows `4n` to `4n + 3`.
        let mut columns = [zero; LANES];
        for w in 0..4 {
            let even_low = _mm512_shuffle_i32x4::<0x88>(quads[w], quads[4 + w]);
            let odd_low = _mm512_shuffle_i32x4::<0xdd>(quads[w], quads[4 + w]);
            let even_high = _mm512_shuffle_i32x4::<0x88>(quads[8 + w], quads[12 + w]);
            let odd_high = _mm512_shuffle_i32x4::<0xdd>(quads[8 + w], quads[12 + w]);
            columns[w] = _mm512_shuffle_i32x4::<0x88>(even_low, even_high);
            columns[8 + w] = _mm512_shuffle_i32x4::<0xdd>(even_low, even_high);
            columns[4 + w] = _mm512_shuffle_i32x4::<0x88>(odd_low, odd_high);
            columns[12 + w] = _mm512_shuffle_i32x4::<0xdd>(odd_low, odd_high);
        }
        columns
    }

    /// # Safety
    /// The machine has AVX-512F; there are 1 to 16 bodies, a state each, and each body has `blocks` blocks.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn compress(states: &mut [State], bodies: &[&[u8]], blocks: usize) {
        // A lane without a body does the first one's work again, and nobody looks.
        let rows: [*const u8; LANES] = std::array::from_fn(|n| bodies.get(n).unwrap_or(&bodies[0]).as_ptr());
        let mut words = [[0_u32; LANES]; 4];
        for (n, state) in states.iter().enumerate() {
            (0..4).for_each(|w| words[w][n] = state[w]);
        }
        // SAFETY: an array of sixteen words is what is read.
        let mut state = words.map(|w| unsafe { _mm512_loadu_si512(w.as_ptr().cast()) });
        for block in 0..blocks {
            // SAFETY: block `block` lies within every body, which the caller answers for.
            let read = rows.map(|row| unsafe { _mm512_loadu_si512(row.add(block * BLOCK).cast()) });
            let m = turn(read);
            block!(m, state);
        }
        for (w, lanes) in words.iter_mut().zip(state) {
            // SAFETY: an array of sixteen words is what is written.
            unsafe { _mm512_storeu_si512(w.as_mut_ptr().cast(), lanes) };
        }
        for (n, state) in states.iter_mut().enumerate() {
            (0..4).for_each(|w| state[w] = words[w][n]);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{BLOCK, K, State};
    use std::arch::x86_64::*;

    const LANES: usize = 8;
    type Words = __m256i;

    #[inline]
    #[target_feature(enable = "avx2")]
    fn add(a: Words, b: Words) -> Words {
        _mm256_add_epi32(a, b)
    }
    #[inline]
    #[target_feature(enable = "avx2")]
    fn splat(word: u32) -> Words {
        _mm256_set1_epi32(word.cast_signed())
    }
    #[inline]
    #[target_feature(enable = "avx2")]
    fn rotate<const BITS: i32>(a: Words) -> Words {
        let (left, right) = (_mm_cvtsi32_si128(BITS), _mm_cvtsi32_si128(32 - BITS));
        _mm256_or_si256(_mm256_sll_epi32(a, left), _mm256_srl_epi32(a, right))
    }
    #[inline]
    #[target_feature(enable = "avx2")]
    fn f(b: Words, c: Words, d: Words) -> Words {
        _mm256_xor_si256(d, _mm256_and_si256(b, _mm256_xor_si256(c, d)))
    }
    #[inline]
    #[target_feature(enable = "avx2")]
    fn g(b: Words, c: Words, d: Words) -> Words {
        // The two have no bit in common; the first does not wait for the step before.
        _mm256_or_si256(_mm256_andnot_si256(d, c), _mm256_and_si256(d, b))
    }
    #[inline]
    #[target_feature(enable = "avx2")]
    fn h(b: Words, c: Words, d: Words) -> Words {
        _mm256_xor_si256(b, _mm256_xor_si256(c, d))
    }
    #[inline]
    #[target_feature(enable = "avx2")]
    fn i(b: Words, c: Words, d: Words) -> Words {
        let not_d = _mm256_xor_si256(d, _mm256_set1_epi32(-1));
        _mm256_xor_si256(c, _mm256_or_si256(b, not_d))
    }

    /// Rows become columns, as for sixteen.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn turn(rows: [Words; LANES]) -> [Words; LANES] {
        let zero = _mm256_setzero_si256();
        let (mut pairs, mut quads) = ([zero; LANES], [zero; LANES]);
        for n in 0..4 {
            pairs[2 * n] = _mm256_unpacklo_epi32(rows[2 * n], rows[2 * n + 1]);
            pairs[2 * n + 1] = _mm256_unpackhi_epi32(rows[2 * n], rows[2 * n + 1]);
        }
        for n in 0..2 {
            let p = 4 * n;
            quads[p] = _mm256_unpacklo_epi64(pairs[p], pairs[p + 2]);
            quads[p + 1] = _mm256_unpackhi_epi64(pairs[p], pairs[p + 2]);
            quads[p + 2] = _mm256_unpacklo_epi64(pairs[p + 1], pairs[p + 3]);
            quads[p + 3] = _mm256_unpackhi_epi64(pairs[p + 1], pairs[p + 3]);
        }
        let mut columns = [zero; LANES];
        for w in 0..4 {
            columns[w] = _mm256_permute2x128_si256::<0x20>(quads[w], quads[4 + w]);
            columns[4 + w] = _mm256_permute2x128_si256::<0x31>(quads[w], quads[4 + w]);
        }
        columns
    }

    /// # Safety
    /// The machine has AVX2; there are 1 to 8 bodies, a state each, and each body has `blocks` blocks.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn compress(states: &mut [State], bodies: &[&[u8]], blocks: usize) {
        // A lane without a body does the first one's work again, and nobody looks.
        let rows: [*const u8; LANES] = std::array::from_fn(|n| bodies.get(n).unwrap_or(&bodies[0]).as_ptr());
        let mut words = [[0_u32; LANES]; 4];
        for (n, state) in states.iter().enumerate() {
            (0..4).for_each(|w| words[w][n] = state[w]);
        }
        // SAFETY: an array of eight words is what is read.
        let mut state = words.map(|w| unsafe { _mm256_loadu_si256(w.as_ptr().cast()) });
        for block in 0..blocks {
            // SAFETY: both halves of block `block` lie within every body, which the caller answers for.
            let read = |half: usize| {
                rows.map(|row| unsafe { _mm256_loadu_si256(row.add(block * BLOCK + half * 32).cast()) })
            };
            let (low, high) = (turn(read(0)), turn(read(1)));
            let m: [Words; 16] = std::array::from_fn(|w| if w < 8 { low[w] } else { high[w - 8] });
            block!(m, state);
        }
        for (w, lanes) in words.iter_mut().zip(state) {
            // SAFETY: an array of eight words is what is written.
            unsafe { _mm256_storeu_si256(w.as_mut_ptr().cast(), lanes) };
        }
        for (n, state) in states.iter_mut().enumerate() {
            (0..4).for_each(|w| state[w] = words[w][n]);
        }
    }
}
