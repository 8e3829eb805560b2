//! What a power cut leaves.
//!
//! 1. Whatever is durable is in every image; whatever is chosen lies between
//!    durable and live.
//! 2. Choices are independent a sector and a name change, in most files and
//!    directories. In the others all, none, or a first part survives: with many
//!    sectors, independent coins would never show these.
//! 3. Both halves of a rename across directories have the same fate.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fs::{Directory, FileSystem, Names};
use super::inode::{Bytes, Inode, PAGE_LEN, Page, ZERO_PAGE};

/// Sebastiano Vigna's splitmix64.
#[derive(Clone, Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, or 0.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

/// Which of a row of un-synced changes survive.
enum Fate {
    All,
    None,
    /// The first so many.
    First(u64),
    Each,
}

impl Fate {
    fn choose(random: &mut Random, changes: u64) -> Fate {
        match random.below(8) {
            0 => Fate::All,
            1 => Fate::None,
            2 => Fate::First(random.below(changes + 1)),
            _ => Fate::Each,
        }
    }

    /// Whether the next change survives.
    fn next(&mut self, random: &mut Random) -> bool {
        match self {
            Fate::All => true,
            Fate::None => false,
            Fate::First(0) => false,
            Fate::First(left) => {
                *left -= 1;
                true
            }
            Fate::Each => random.coin(),
        }
    }
}

impl FileSystem {
    /// An image with the choices that `seed` makes.
    pub(super) fn crash(&self, seed: u64) -> FileSystem {
        let mut random = Random(seed);
        // Invariant 3: a coin of the rename, not of either directory.
        let renames = random.next();
        if self.dirs.values().any(|dir| dir.renamed_from.is_some()) {
            let back = self.with_dirs_renamed_back(&mut |_| random.coin());
            return back.crash_names(renames, random);
        }
        self.crash_names(renames, random)
    }

    fn crash_names(&self, renames: u64, mut random: Random) -> FileSystem {
        let names = self.dirs.values().map(|dir| crashed_names(dir, renames, &mut random));
        let names: Vec<Names> = names.collect();
        self.image(names, |inode| crashed_bytes(inode, &mut random))
    }

    /// The image that holds nothing but what is durable.
    pub(super) fn durable_image(&self) -> FileSystem {
        if self.dirs.values().any(|dir| dir.renamed_from.is_some()) {
            return self.with_dirs_renamed_back(&mut |_| true).durable_image();
        }
        let names = self.dirs.values().map(|dir| dir.durable.clone()).collect();
        self.image(names, |inode| inode.durable.clone())
    }

    /// The image in which the directories have these names and the files that
    /// are not settled these bytes.
    fn image(&self, names: Vec<Names>, mut bytes: impl FnMut(&Inode) -> Bytes) -> FileSystem {
        let mut inodes = BTreeMap::new();
        for id in names.iter().flat_map(|names| names.values()) {
            inodes.entry(*id).or_insert_with(|| match &self.inodes[id] {
                inode if inode.is_settled() => Arc::clone(inode),
                inode => Arc::new(Inode::settled(bytes(inode))),
            });
        }
        let dirs = self.dirs.keys().cloned().zip(names.into_iter().map(|names| Directory {
            durable: names.clone(),
            live: names,
            ..Directory::default()
        }));
        self.replaced(inodes, dirs.collect())
    }
}

fn crashed_names(dir: &Directory, renames: u64, random: &mut Random) -> Names {
    let mut names = dir.durable.clone();
    let mut fate = Fate::choose(random, dir.pending.len() as u64);
    for pending in &dir.pending {
        let survives = match &pending.other_half {
            Some((_, number)) => Random(renames ^ number).coin(),
            None => fate.next(random),
        };
        if survives {
            pending.change.apply(&mut names);
        }
    }
    names
}

fn crashed_bytes(inode: &Inode, random: &mut Random) -> Bytes {
    let sector = if random.coin() { 512 } else { PAGE_LEN };
    let (old, new) = (inode.durable.len, inode.live.len);
    let len = match random.below(4) {
        0 => old,
        1 => old.min(new) + random.below(old.abs_diff(new) + 1),
        _ => new,
    };
    let mut out = inode.durable.clone();
    out.resize(len.max(old));
    let sectors = inode.dirty.len() * (PAGE_LEN / sector);
    let mut fate = Fate::choose(random, sectors as u64);
    for (index, dirty) in &inode.dirty {
        let mut new_page = inode.live.page(*index);
        // The device may have the page as it was a while ago (each page at a
        // time of its own).
        if matches!(fate, Fate::Each) && !dirty.between.is_empty() && random.below(4) == 0 {
            new_page = dirty.between.get(random.below(dirty.between.len() as u64) as usize);
        }
        let mut page: Page = *inode.durable.page(*index).map_or(&ZERO_PAGE, |p| p);
        for start in (0..PAGE_LEN).step_by(sector) {
            if fate.next(random) {
                let new_page = new_page.map_or(&ZERO_PAGE, |p| p);
                page[start..][..sector].copy_from_slice(&new_page[start..][..sector]);
            }
        }
        if let Some(slot) = out.pages.get_mut(*index) {
            *slot = Some(Arc::new(page));
        }
    }
    out.resize(len);
    out.clear_tail();
    out
}
