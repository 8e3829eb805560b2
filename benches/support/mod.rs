//! What the benches share: keys and orders that look random and are the same
//! in every run, and criterion with a profiler.
//!
//! Everything here is made before a measurement: a key costs tens of
//! nanoseconds, which is what some of the measured things take.

mod flamegraph;

use criterion::Criterion;

/// A benched value; what a put of it and its key takes is 116 bytes.
pub(crate) const VALUE: [u8; 100] = [b'v'; 100];

/// Criterion that answers `--profile-time` with flamegraphs.
pub(crate) fn criterion() -> Criterion {
    Criterion::default().with_profiler(flamegraph::Flamegraphs::default())
}

/// 16 bytes, decimal.
pub(crate) fn decimal(i: u64) -> [u8; 16] {
    let mut key = *b"0000000000000000";
    let mut rest = i;
    for byte in key.iter_mut().rev() {
        *byte = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

/// A bijection on the integers whose results look random.
pub(crate) fn mix(i: u64) -> u64 {
    let mut x = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^= x >> 29;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^ x >> 32
}

/// Random draws from `0..n`, with repetitions.
pub(crate) fn draws(count: u64, n: u64) -> impl Iterator<Item = u64> {
    (1..=count).map(move |i| mix(i) % n)
}

/// `0..n`, each once, in random order.
pub(crate) fn shuffled(n: u64) -> Vec<u64> {
    let mut order: Vec<u64> = (0..n).collect();
    order.sort_by_key(|i| mix(*i));
    order
}

/// Inputs made beforehand, taken one after the other and again from the front.
pub(crate) struct Cycle<T> {
    items: Vec<T>,
    at: usize,
}

impl<T> Cycle<T> {
    pub(crate) fn new(items: impl IntoIterator<Item = T>) -> Cycle<T> {
        let items: Vec<T> = items.into_iter().collect();
        assert!(!items.is_empty(), "there must be something to go round");
        Cycle { items, at: 0 }
    }

    #[inline]
    pub(crate) fn next(&mut self) -> &T {
        &self.next_some(1)[0]
    }

    /// The next `n`, which are adjacent.
    #[inline]
    pub(crate) fn next_some(&mut self, n: usize) -> &[T] {
        if self.at + n > self.items.len() {
            self.at = 0;
        }
        self.at += n;
        &self.items[self.at - n..self.at]
    }
}
