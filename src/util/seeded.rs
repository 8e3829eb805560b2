//! Deliberate mistakes, to show that the tests would catch them.
//!
//! `seeded::bug("name")` marks where a mistake can be switched on. In ordinary
//! builds it is the constant `false`, and nothing of it is compiled. With the
//! feature `seeded-bugs` the variable `AIDB_SEEDED_BUG` selects one; the
//! interleaving models (`--cfg shuttle`) select one for a closure. Which tests
//! must catch which mistake is the table in `tests/seeded_bugs.rs`.

/// Whether the mistake of this name is switched on.
#[cfg(not(any(feature = "seeded-bugs", shuttle)))]
#[inline(always)]
pub(crate) const fn bug(_name: &str) -> bool {
    false
}

/// Whether the mistake of this name is switched on.
#[cfg(any(feature = "seeded-bugs", shuttle))]
pub(crate) fn bug(name: &str) -> bool {
    use std::sync::OnceLock;
    static SELECTED: OnceLock<Option<String>> = OnceLock::new();
    #[cfg(shuttle)]
    if tests::SELECTED.get() == Some(name) {
        return true;
    }
    SELECTED.get_or_init(|| std::env::var("AIDB_SEEDED_BUG").ok()).as_deref() == Some(name)
}

#[cfg(shuttle)]
pub(crate) mod tests {
    use std::cell::Cell;

    thread_local! {
        /// A model runs all its threads on one thread of the system.
        pub(super) static SELECTED: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    /// Runs `f` with a mistake switched on, which must make it panic.
    #[cfg(test)]
    pub(crate) fn must_fail(name: &'static str, f: impl FnOnce() + std::panic::UnwindSafe) {
        SELECTED.set(Some(name));
        let result = std::panic::catch_unwind(f);
        SELECTED.set(None);
        assert!(result.is_err(), "the model does not notice `{name}`");
    }
}
