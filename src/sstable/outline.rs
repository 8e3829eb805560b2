//! The parts of a table file, as its footer and meta index name them: for tools
//! that look into one. A part that is damaged is named all the same, and said to
//! be.

use std::path::Path;

use super::format::*;
use super::source::Source;
use crate::config::ReadMode;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::util::checksum::checksum;
use crate::util::coding::Cursor;

/// A part of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) at: BlockHandle,
    /// Whether its checksum holds.
    pub(crate) is_intact: bool,
}

/// What the end of the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outline {
    /// The format version in the footer; `None` if there is no footer.
    pub(crate) version: Option<u32>,
    /// In the order of the file, as far as they are named.
    pub(crate) sections: Vec<Section>,
}

/// Reads the outline of the table at `path`.
pub(crate) fn outline(env: &dyn Env, path: &Path) -> Result<Outline> {
    // Never a mapping: the device may be what is damaged.
    let source =
        Source::open(env, path, ReadMode::Pread).map_err(|e| Error::io("open", path, e))?;
    let footer_at = source.len().saturating_sub(FOOTER_LEN as u64);
    let read = |at: BlockHandle| Some(source.read(at).ok()??.into_owned());
    let footer_handle = BlockHandle { offset: footer_at, len: source.len() - footer_at };
    let Some(end) = read(footer_handle) else { return Ok(Outline::default()) };
    let Some(footer) = Footer::decode(&end) else { return Ok(Outline::default()) };
    let (meta_index, index) = (read(footer.meta_index), read(footer.index));
    let is_intact = match (&meta_index, &index) {
        (Some(meta_index), Some(index)) => footer.is_intact(&end, meta_index, index),
        _ => false,
    };
    let mut sections = Vec::new();
    let meta_index = meta_index.unwrap_or_default();
    let mut cursor = Cursor::new(&meta_index);
    while let Some((name, at, sum)) = read_meta(&mut cursor) {
        let is_intact = read(at).is_some_and(|bytes| checksum(&[&bytes]) == sum);
        sections.push(Section { name: name.escape_ascii().to_string(), at, is_intact });
    }
    for (name, at) in
        [("meta index", footer.meta_index), ("index", footer.index), ("footer", footer_handle)]
    {
        sections.push(Section { name: name.into(), at, is_intact });
    }
    sections.sort_by_key(|section| section.at.offset);
    Ok(Outline { version: Some(footer.version), sections })
}
