//! The tables that a database consists of.

use std::path::PathBuf;

use super::TableProperties;
use crate::db::Core;
use crate::version::filename::table_path;

/// A table that is part of the database now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LiveTable {
    /// The name of its column family.
    pub family: String,
    /// 0 to 6.
    pub level: usize,
    /// The number in its name.
    pub number: u64,
    /// The file.
    pub path: PathBuf,
    /// Length of the file, in bytes.
    pub size: u64,
    /// Entries, every version and tombstone counted.
    pub entries: u64,
    /// What it says about itself.
    pub properties: TableProperties,
}

pub(crate) fn live_tables(core: &Core) -> Vec<LiveTable> {
    let mut tables = Vec::new();
    for family in core.families() {
        let super_version = family.view().cell().acquire();
        tables.extend(super_version.version.all_files().map(|(level, file)| LiveTable {
            family: family.name().to_owned(),
            level,
            number: file.number,
            path: table_path(&core.context.dir, file.number),
            size: file.size,
            entries: file.entries,
            properties: TableProperties::new(file.table().properties()),
        }));
    }
    tables
}
