//! What a table file holds.

use std::path::Path;
use std::sync::Arc;

use super::{Damage, Entry, kind_name};
use crate::cache::BlockCache;
use crate::config::{Compression, ReadMode, VerifyChecksums};
use crate::env::Env;
use crate::error::{Error, Result};
use crate::sstable::format::{BlockHandle, Properties};
use crate::sstable::outline::{self, Outline};
use crate::sstable::salvage::{Piece, Salvaged, salvage};
use crate::sstable::{Table, TableReadOptions};

/// A part of a table file that is no data block.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Section {
    /// `filter`, `points`, `properties`, `meta index`, `index`, `footer`.
    pub name: String,
    /// Byte offset in the file.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
    /// Whether its checksum holds.
    pub is_intact: bool,
}

/// What a table says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableProperties {
    /// The column family: identifier and name.
    pub family: Option<(u32, String)>,
    /// Entries, tombstones included.
    pub entries: u64,
    /// Tombstones.
    pub deletes: u64,
    /// Total length of the keys, in bytes.
    pub raw_key_bytes: u64,
    /// Total length of the values, in bytes.
    pub raw_value_bytes: u64,
    /// Data blocks.
    pub data_blocks: u64,
    /// Bytes of the file before the first part that is no data block.
    pub data_bytes: u64,
    /// The first key.
    pub smallest: Vec<u8>,
    /// The last key.
    pub largest: Vec<u8>,
    /// The smallest sequence number of an entry.
    pub smallest_seq: u64,
    /// The largest one.
    pub largest_seq: u64,
    /// How its blocks are compressed where that makes them smaller.
    pub compression: Compression,
    /// All writes of the family up to this sequence number were in tables when it
    /// was written.
    pub covers_seq: Option<u64>,
    /// Numbers of the tables that it was made to replace, with the others of its
    /// compaction.
    pub replaces: Vec<u64>,
}

impl TableProperties {
    pub(super) fn new(p: &Properties) -> TableProperties {
        let origin = p.origin.as_ref();
        TableProperties {
            family: origin.map(|o| (o.family, o.family_name.to_string())),
            entries: p.entries,
            deletes: p.deletes,
            raw_key_bytes: p.raw_key_bytes,
            raw_value_bytes: p.raw_value_bytes,
            data_blocks: p.data_blocks,
            data_bytes: p.data_bytes,
            smallest: p.smallest.user_key.to_vec(),
            largest: p.largest.user_key.to_vec(),
            smallest_seq: p.smallest_seq,
            largest_seq: p.largest_seq,
            compression: p.compression,
            covers_seq: origin.map(|o| o.covers_seq),
            replaces: origin.map_or_else(Vec::new, |o| o.replaces.clone()),
        }
    }
}

/// A part of a table's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TablePart<'a> {
    /// An intact data block; its entries follow.
    Block {
        /// Byte offset in the file.
        offset: u64,
        /// Bytes in the file.
        len: u64,
        /// Whether they are compressed.
        is_compressed: bool,
        /// How many entries it has.
        entries: u64,
    },
    /// An entry of the block.
    Entry(Entry<'a>),
    /// Bytes where a data block should be and none is intact.
    Lost {
        /// Byte offset in the file.
        offset: u64,
        /// How many.
        len: u64,
    },
}

/// What a table file is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableReport {
    /// Length of the file, in bytes.
    pub size: u64,
    /// The format version; `None` without a footer.
    pub format_version: Option<u32>,
    /// What it says about itself, if that is intact.
    pub properties: Option<TableProperties>,
    /// Its parts beside the data blocks, in the order of the file.
    pub sections: Vec<Section>,
    /// Entries that could be read.
    pub entries: u64,
    /// Where it is damaged.
    pub damage: Vec<Damage>,
}

/// Reads the table file at `path`: `each` gets its data blocks and entries, in
/// the order of the file.
///
/// # Errors
/// `Io` when it cannot be opened.
pub fn table(
    env: &dyn Env,
    path: &Path,
    each: &mut dyn FnMut(TablePart<'_>),
) -> Result<TableReport> {
    let size = env.file_len(path).map_err(|e| Error::io("open", path, e))?;
    let Outline { version, sections } = outline::outline(env, path)?;
    let mut damage = Vec::new();
    let Salvaged { entries, properties, .. } = salvage(env, path, &mut |piece| {
        each(match piece {
            Piece::Block { at, entries } => TablePart::Block {
                offset: at.offset,
                len: at.len.into(),
                is_compressed: at.compressed,
                entries: entries as u64,
            },
            Piece::Entry(key, value) => TablePart::Entry(Entry {
                family: None,
                key: key.user_key,
                sequence: key.seq_type.sequence(),
                kind: kind_name(key.seq_type.value_type()),
                value,
            }),
            Piece::Lost { offset, len } => {
                damage.push(Damage::new(offset, format!("no intact block in {len} bytes")));
                TablePart::Lost { offset, len }
            }
        });
        Ok(())
    })?;
    let lost = !damage.is_empty();
    for section in sections.iter().filter(|section| !section.is_intact) {
        let what = format!("checksum mismatch of {}", section.name);
        damage.push(Damage::new(section.at.offset, what));
    }
    if let Err(error) = strictly(env, path, size, lost) {
        match error {
            // What is known already, with a better place.
            Error::Corruption { .. } if !damage.is_empty() => {}
            Error::Corruption { offset, what, .. } => damage.push(Damage::new(offset, what)),
            other => damage.push(Damage::new(0, other.to_string())),
        }
    }
    damage.sort_by_key(|damage| damage.offset);
    let sections = sections.into_iter().map(|section| {
        let BlockHandle { offset, len } = section.at;
        Section { name: section.name, offset, len, is_intact: section.is_intact }
    });
    Ok(TableReport {
        size,
        format_version: version,
        properties: properties.as_ref().map(TableProperties::new),
        sections: sections.collect(),
        entries,
        damage,
    })
}

/// What the full check says; of a table that has lost blocks, what opening it
/// says, since the check would find the first of them again.
fn strictly(env: &dyn Env, path: &Path, size: u64, lost: bool) -> Result<()> {
    let options = TableReadOptions {
        verify: VerifyChecksums::EveryRead,
        mode: ReadMode::Pread,
        cache: Arc::new(BlockCache::new(0)),
    };
    let table = Table::open(env, path, 0, size, None, options)?;
    if lost { Ok(()) } else { table.verify_all() }
}
