//! Which tables make up the database, and how that changes durably.
//!
//! A [`version::Version`] is an immutable list of tables by level. A change is
//! an [`edit::VersionEdit`]; [`set::VersionSet`] appends it to the manifest,
//! syncs, and only then installs the version that [`builder`] made of it.

pub(crate) mod builder;
pub(crate) mod edit;
pub(crate) mod filename;
mod jump;
pub(crate) mod known;
pub(crate) mod manifest;
#[cfg(all(test, shuttle))]
pub(crate) mod models;
pub(crate) mod multi_get;
pub(crate) mod runs;
pub(crate) mod set;
pub(crate) mod super_version;
#[expect(clippy::module_inception, reason = "a version is what the layer is named after")]
pub(crate) mod version;
pub(crate) mod view;

pub(crate) use filename::table_path;
pub(crate) use version::{BelowCursor, FileMeta, Version};

#[cfg(test)]
pub(crate) mod test_env;
