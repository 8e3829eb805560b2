//! Keys made from an index.
//!
//! Keys that are stored come from even numbers and absent ones from odd
//! numbers, so that an absent key lies in the range of the tables and only a
//! filter or a search can tell that it is not there.

use serde::{Deserialize, Serialize};

use super::{Buffer, mix};

/// What keys look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum KeyKind {
    /// Big-endian counters, zeros in front.
    Counter,
    /// Decimal counters, zeros in front: `%016d`.
    Decimal,
    /// A 64-bit hash and what follows from it: no order, no common prefix.
    Hashed,
    /// The natural keys of a JSON-lines file.
    Real,
}

impl std::fmt::Display for KeyKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            KeyKind::Counter => "counter",
            KeyKind::Decimal => "decimal",
            KeyKind::Hashed => "hashed",
            KeyKind::Real => "real",
        })
    }
}

impl KeyKind {
    /// The fewest bytes in which all keys are distinct.
    pub(super) fn key_size_min(self) -> usize {
        match self {
            KeyKind::Counter | KeyKind::Hashed => 8,
            KeyKind::Decimal => 12,
            KeyKind::Real => 1,
        }
    }

    /// The key size where none is asked for.
    pub fn key_size_default(self) -> usize {
        match self {
            KeyKind::Counter => 8,
            _ => 16,
        }
    }
}

/// Builds the `i`-th stored key of `size` bytes in `out`.
#[inline]
pub(super) fn present_key(kind: KeyKind, i: u64, size: usize, out: &mut Buffer) {
    encode(kind, 2 * i, size, out);
}

/// Builds the `i`-th absent key.
pub(super) fn absent_key(kind: KeyKind, i: u64, size: usize, out: &mut Buffer) {
    encode(kind, 2 * i + 1, size, out);
}

/// Inlined, and by whole words: it is in the time of every lookup, and where an
/// engine's misses could overlap, each instruction between two of them counts.
#[inline]
fn encode(kind: KeyKind, number: u64, size: usize, out: &mut Buffer) {
    if out.len() != size {
        out.resize(size, 0);
    }
    match kind {
        KeyKind::Counter => {
            let (zeros, counter) = out.split_at_mut(size - 8);
            zeros.fill(0);
            counter.copy_from_slice(&number.to_be_bytes());
        }
        KeyKind::Decimal => decimal(number, out),
        KeyKind::Hashed => {
            let mut word = number;
            let mut next = || {
                word = mix(word.wrapping_add(0x9e37_79b9_7f4a_7c15));
                word.to_be_bytes()
            };
            if let Ok(words) = <&mut [u8; 16]>::try_from(&mut out[..]) {
                let (words, _) = words.as_chunks_mut();
                (words[0], words[1]) = (next(), next());
                return;
            }
            let (words, rest) = out.as_chunks_mut();
            words.iter_mut().for_each(|word| *word = next());
            if !rest.is_empty() {
                rest.copy_from_slice(&next()[..rest.len()]);
            }
        }
        KeyKind::Real => unreachable!("real keys are read, not made"),
    }
}

/// Decimal digits, two at a time: a division a digit would cost more than some
/// of the lookups that are measured.
fn decimal(mut number: u64, out: &mut [u8]) {
    for pair in out.rchunks_mut(2) {
        let two = (number % 100) as u8;
        number /= 100;
        if let [tens, ones] = pair {
            *tens = b'0' + two / 10;
            *ones = b'0' + two % 10;
        } else {
            pair[0] = b'0' + two % 10;
        }
    }
}
