//! In which order keys are asked for, made before the clock starts.

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};

use super::mix;

/// YCSB's exponent.
const ZIPF_EXPONENT: f64 = 0.99;

fn rng(seed: u64) -> SmallRng {
    SmallRng::seed_from_u64(mix(seed))
}

fn narrow(n: u64) -> u32 {
    u32::try_from(n).expect("datasets have fewer than 2^30 keys")
}

/// Every index of `0..n` once, in random order.
pub fn shuffled(n: u64, seed: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..narrow(n)).collect();
    order.shuffle(&mut rng(seed));
    order
}

/// `count` indices of `0..n`, each as likely.
pub fn uniform(n: u64, count: usize, seed: u64) -> Vec<u32> {
    let mut rng = rng(seed);
    (0..count).map(|_| rng.random_range(0..narrow(n))).collect()
}

/// `count` indices of `0..n`, few of them often: rank `r` as `1 / r^0.99`, the
/// ranks scattered over the keys by a hash, as YCSB's scrambled Zipfian.
pub fn zipf(n: u64, count: usize, seed: u64) -> Vec<u32> {
    ranks(n, count, &mut rng(seed)).map(|rank| narrow(mix(rank) % n)).collect()
}

/// `count` distances from the newest key, near ones often (YCSB D).
pub fn latest(n: u64, count: usize, seed: u64) -> Vec<u32> {
    ranks(n, count, &mut rng(seed)).map(narrow).collect()
}

/// The indices of an order that is not empty, again and again.
pub fn endless(order: &[u32]) -> impl Iterator<Item = u64> + '_ {
    order.iter().cycle().map(|i| u64::from(*i))
}

/// Ranks from 0.
fn ranks(n: u64, count: usize, rng: &mut impl Rng) -> impl Iterator<Item = u64> {
    let zipf = Zipf::new(n as f64, ZIPF_EXPONENT).expect("n is positive");
    (0..count).map(move |_| (zipf.sample(rng) as u64).clamp(1, n) - 1)
}
