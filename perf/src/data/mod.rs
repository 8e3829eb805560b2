//! The data that goes through every engine: keys, values, and the order in
//! which they are asked for. All of it follows from an index and a seed.

mod keys;
mod order;
mod real;
mod values;

pub use keys::KeyKind;
pub use order::{endless, latest, shuffled, uniform, zipf};

use std::path::Path;

use anyhow::{Result, ensure};

use keys::{absent_key, present_key};
use real::Records;
use values::Filler;

/// A bijection of the 64-bit numbers that looks random (the finaliser of splitmix64).
pub fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// Where a key or a value is built, so that nothing is allocated an operation.
pub type Buffer = Vec<u8>;

/// Keys `0..` and their values.
///
/// A value begins with a tag that follows from its key, so that a read is
/// checked by adding up eight bytes of what it found: cheap enough for the
/// timed loop, and the engine must really have brought the value.
#[derive(Debug)]
pub struct Dataset {
    kind: KeyKind,
    num: u64,
    key_size: usize,
    value_size: usize,
    filler: Filler,
    records: Option<Records>,
}

impl Dataset {
    /// `num` made-up keys of `key_size` bytes with values of `value_size` bytes.
    ///
    /// # Errors
    ///
    /// Sizes that cannot hold what makes keys distinct or values checkable.
    pub fn synthetic(kind: KeyKind, num: u64, key_size: usize, value_size: usize) -> Result<Self> {
        ensure!(kind != KeyKind::Real, "real keys come from a file");
        ensure!(num > 0 && num <= u64::from(u32::MAX) / 4, "num must be in 1..2^30");
        let least = kind.key_size_min();
        ensure!((least..=511).contains(&key_size), "{kind} keys take {least} to 511 bytes");
        ensure!((8..=1 << 20).contains(&value_size), "values take 8 bytes to 1 MiB");
        let filler = Filler::new(value_size);
        Ok(Dataset { kind, num, key_size, value_size, filler, records: None })
    }

    /// The records of a JSON-lines file: the field `field` is the key, the line the value.
    ///
    /// # Errors
    ///
    /// What keeps the file from being read; fewer than two records.
    pub fn real(file: &Path, field: &str) -> Result<Self> {
        let records = Records::read(file, field)?;
        let num = records.len() as u64;
        let (key_size, value_size) = records.mean_sizes();
        let filler = Filler::new(8);
        let kind = KeyKind::Real;
        Ok(Dataset { kind, num, key_size, value_size, filler, records: Some(records) })
    }

    /// Number of keys that a fill stores.
    pub fn num(&self) -> u64 {
        self.num
    }

    /// What the keys look like.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Bytes a key; the mean for real records.
    pub fn key_size(&self) -> usize {
        self.key_size
    }

    /// Bytes a value; the mean for real records.
    pub fn value_size(&self) -> usize {
        self.value_size
    }

    /// Bytes of key and value of one entry; the mean for real records.
    pub fn entry_bytes(&self) -> u64 {
        (self.key_size + self.value_size) as u64
    }

    /// The `i`-th key, built in `buffer` where it must be built.
    ///
    /// Keys beyond `num` exist too (inserts); real records start over there.
    pub fn key<'a>(&'a self, i: u64, buffer: &'a mut Buffer) -> &'a [u8] {
        match &self.records {
            Some(records) => records.key(i),
            None => {
                present_key(self.kind, i, self.key_size, buffer);
                buffer
            }
        }
    }

    /// A key that no fill stores, right beside the `i`-th.
    pub fn absent_key<'a>(&self, i: u64, buffer: &'a mut Buffer) -> &'a [u8] {
        match &self.records {
            Some(records) => records.absent_key(i, buffer),
            None => absent_key(self.kind, i, self.key_size, buffer),
        }
        buffer
    }

    /// The value of the `i`-th key; `generation` tells later versions apart
    /// (real records have one only).
    pub fn value<'a>(&'a self, i: u64, generation: u64, buffer: &'a mut Buffer) -> &'a [u8] {
        match &self.records {
            Some(records) => records.value(i),
            None => {
                self.filler.value(tag(i), mix(i) ^ mix(generation), self.value_size, buffer);
                buffer
            }
        }
    }

    /// The tag of the `i`-th key's value.
    pub fn tag(&self, i: u64) -> u64 {
        match &self.records {
            Some(records) => Records::tag_of(records.value(i)),
            None => tag(i),
        }
    }

    /// The tag that stands in a value; 0 for one that is too short.
    pub fn tag_of(&self, value: &[u8]) -> u64 {
        match &self.records {
            Some(_) => Records::tag_of(value),
            None => value.first_chunk().map_or(0, |tag| u64::from_le_bytes(*tag)),
        }
    }

    /// The sum of the tags of the keys `0..live`, wrapping.
    pub fn tag_sum(&self, live: u64) -> u64 {
        (0..live).fold(0, |sum, i| sum.wrapping_add(self.tag(i)))
    }
}

/// The tag of a made-up value. Never 0.
fn tag(i: u64) -> u64 {
    mix(i.wrapping_add(0x5851_f42d_4c95_7f2d)) | 1
}

#[cfg(test)]
mod tests;
