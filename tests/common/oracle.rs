//! What a database may show after it was cut off.
//!
//! The commits go in, in their order; what recovery shows is then checked to be
//! the state after a first part of them, and at least what was promised.
//!
//! 1. A commit is begun before it is written: an image taken meanwhile may hold
//!    it. It is acknowledged after its write returned, and durable after a sync
//!    that covers it did.
//! 2. Every state after a first part of the commits has a fingerprint, the sum
//!    of the hashes of its entries, so that a commit costs as much as it has
//!    entries and a check as much as it finds. The sums have 128 bits: that two
//!    states of one run share one by chance does not happen.
//! 3. Batches are whole and families agree because no other state has the
//!    fingerprint. For this the values of different commits must differ; where
//!    states are the same all the same (a deletion of nothing), the last counts.
//! 4. What was durable when an image was taken is found by the count of the file
//!    system's mutations: [`Oracle::mark`] notes it after each promise.
//! 5. After a write that failed, nobody knows whether it was made: it stays the
//!    last commit, neither acknowledged nor denied.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use aidb::env::Env;
use aidb::{ColumnFamily, Db, FamilyStats, Result, WriteBatch, WriteOptions};

/// Number of the family in the test, and key.
pub(crate) type Key = (usize, Vec<u8>);
pub(crate) type State = BTreeMap<Key, Vec<u8>>;
/// `None` deletes.
pub(crate) type Commit = Vec<(Key, Option<Vec<u8>>)>;

/// Every fourth commit is written by a transaction.
pub(crate) fn by_transaction(number: u64) -> bool {
    number.is_multiple_of(4)
}

/// Writes a commit into a database, whose families are numbered as in it: by a
/// transaction, or as a batch.
pub(crate) fn write(
    db: &Db,
    families: &[&ColumnFamily],
    commit: &Commit,
    by_transaction: bool,
    options: &WriteOptions,
) -> Result<()> {
    if by_transaction {
        let mut transaction = db.transaction();
        for ((family, key), value) in commit {
            match value {
                Some(value) => transaction.put_in(families[*family], key, value)?,
                None => transaction.delete_in(families[*family], key)?,
            }
        }
        return transaction.commit_opt(options).map(|_| ());
    }
    let mut batch = WriteBatch::new();
    for ((family, key), value) in commit {
        match value {
            Some(value) => batch.put_in(families[*family], key, value),
            None => batch.delete_in(families[*family], key),
        }
    }
    db.write(&batch, options).map(|_| ())
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Oracle {
    commits: Vec<Commit>,
    state: State,
    sum: u128,
    /// The last `p` whose state has the fingerprint (rule 2).
    prefixes: HashMap<u128, usize>,
    acknowledged: usize,
    durable: usize,
    /// Mutations counted when so many commits were durable; both grow.
    marks: Vec<(u64, usize)>,
    /// Commits begun in all forks: no two have the same number.
    total: u64,
}

/// Two hashes with different keys make one that is long enough.
fn hash(key: &Key, value: &[u8]) -> u128 {
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        (salt, key, value).hash(&mut hasher);
        hasher.finish()
    };
    u128::from(half(1)) << 64 | u128::from(half(2))
}

fn fingerprint(state: &State) -> u128 {
    state.iter().fold(0, |sum, (key, value)| sum.wrapping_add(hash(key, value)))
}

impl Oracle {
    pub(crate) fn new() -> Oracle {
        let mut oracle = Oracle::default();
        oracle.prefixes.insert(0, 0);
        oracle
    }

    /// The number that the next commit will have, in all forks.
    pub(crate) fn next_number(&self) -> u64 {
        self.total + 1
    }

    /// Rule 1: before the write.
    pub(crate) fn begin(&mut self, commit: Commit) {
        for (key, value) in &commit {
            let old = match value {
                Some(value) => {
                    self.sum = self.sum.wrapping_add(hash(key, value));
                    self.state.insert(key.clone(), value.clone())
                }
                None => self.state.remove(key),
            };
            if let Some(old) = old {
                self.sum = self.sum.wrapping_sub(hash(key, &old));
            }
        }
        self.total += 1;
        self.commits.push(commit);
        self.prefixes.insert(self.sum, self.commits.len());
    }

    /// All that was begun was acknowledged.
    pub(crate) fn acknowledge(&mut self) {
        self.acknowledged = self.commits.len();
    }

    /// All that was acknowledged is durable.
    pub(crate) fn sync(&mut self) {
        self.durable = self.acknowledged;
    }

    /// Rule 4: after what is durable became so.
    pub(crate) fn mark(&mut self, mutations: u64) {
        if self.marks.last().is_none_or(|(_, durable)| *durable < self.durable) {
            self.marks.push((mutations, self.durable));
        }
    }

    /// What was durable when mutation number `n` began.
    pub(crate) fn durable_at(&self, n: u64) -> usize {
        let at = self.marks.partition_point(|(mutations, _)| *mutations < n);
        at.checked_sub(1).map_or(0, |at| self.marks[at].1)
    }

    pub(crate) fn len(&self) -> usize {
        self.commits.len()
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged
    }

    pub(crate) fn durable(&self) -> usize {
        self.durable
    }

    /// The state after all that was begun.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// The state after the first `p` commits: what a snapshot taken then shows.
    pub(crate) fn state_after(&self, p: usize) -> State {
        let mut state = State::new();
        for (key, value) in self.commits[..p].iter().flatten() {
            match value {
                Some(value) => state.insert(key.clone(), value.clone()),
                None => state.remove(key),
            };
        }
        state
    }

    /// The number of first commits whose state is `found`; at least `least`.
    #[track_caller]
    pub(crate) fn check(&self, found: &State, least: usize, what: &str) -> usize {
        match self.prefixes.get(&fingerprint(found)) {
            Some(p) if *p >= least => *p,
            p => panic!("{what}: {}", self.explain(found, least, p.copied())),
        }
    }

    fn explain(&self, found: &State, least: usize, p: Option<usize>) -> String {
        let (commits, acknowledged) = (self.commits.len(), self.acknowledged);
        let mut text = format!(
            "the state of {} keys is that after {p:?} commits, of {commits}, {acknowledged} of \
             them acknowledged; at least {least} are promised",
            found.len()
        );
        // The nearest of the states that would have been right.
        let differences = |p: usize| {
            let state = self.state_after(p);
            let missing = state.iter().filter(|(k, v)| found.get(*k) != Some(*v));
            let strange = found.keys().filter(|k| !state.contains_key(*k));
            missing.map(|(k, _)| k).chain(strange).cloned().collect::<Vec<Key>>()
        };
        let nearest = (least..=commits).min_by_key(|p| differences(*p).len()).expect("one");
        let mut keys = differences(nearest);
        keys.truncate(5);
        text += &format!("; nearest to it is that after {nearest}, which differs in {keys:?}");
        for key in &keys {
            let value = found.get(key).map(|v| v.get(..8).unwrap_or(v));
            let last = |(at, commit): (usize, &Commit)| {
                commit.iter().any(|(k, _)| k == key).then_some(at + 1)
            };
            let writes: Vec<_> = self.commits.iter().enumerate().filter_map(last).collect();
            text += &format!("; {key:?} is {value:?}, written by commits {writes:?}");
        }
        text
    }

    /// The history that goes on from its first `p` commits, all of them durable.
    pub(crate) fn fork(&self, p: usize) -> Oracle {
        let mut fork = Oracle::new();
        for commit in &self.commits[..p] {
            fork.begin(commit.clone());
        }
        fork.total = self.total;
        fork.acknowledge();
        fork.sync();
        fork
    }
}

/// What the families hold; an error of any read is passed on.
pub(crate) fn contents(db: &Db, others: &[&ColumnFamily]) -> aidb::Result<State> {
    let mut state = State::new();
    for (number, family) in [&**db].iter().chain(others).enumerate() {
        for entry in family.iter() {
            let (key, value) = entry?;
            state.insert((number, key.to_vec()), value.to_vec());
        }
    }
    Ok(state)
}

/// Closes a database that was just opened and has nothing to do; then its
/// directory must hold what it needs and nothing else.
#[track_caller]
pub(crate) fn close_without_orphans(db: Db, env: &dyn Env, dir: &Path) {
    db.wait_idle().expect("an idle database");
    let levels = |family: &FamilyStats| family.levels.iter().map(|l| l.files).sum::<usize>();
    let tables: usize = db.stats().families.iter().map(levels).sum();
    db.close().expect("a database without failures closes");
    let mut counts = BTreeMap::new();
    let names = env.list(dir).expect("the directory can be listed");
    for name in &names {
        let kind = match name.rsplit_once('.') {
            Some((_, extension)) => extension,
            None => name.split('-').next().unwrap_or(name),
        };
        *counts.entry(kind).or_insert(0) += 1;
    }
    let mut expected: BTreeMap<&str, usize> =
        [("CURRENT", 1), ("LOCK", 1), ("MANIFEST", 1), ("log", 1)].into();
    if tables > 0 {
        expected.insert("sst", tables);
    }
    assert_eq!(counts, expected, "an orphan, or a file that is missing: {names:?}");
}

/// Each check of the oracle fails where it has to.
#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::catch_unwind;

    fn put(key: &str, value: &str) -> (Key, Option<Vec<u8>>) {
        ((0, key.into()), Some(value.into()))
    }

    fn oracle() -> Oracle {
        let mut oracle = Oracle::new();
        oracle.begin(vec![put("a", "1")]);
        oracle.begin(vec![put("a", "2"), put("b", "2")]);
        oracle.acknowledge();
        oracle.sync();
        oracle.mark(10);
        oracle.begin(vec![((0, b"a".to_vec()), None)]);
        oracle
    }

    #[test]
    fn the_oracle_accepts_prefixes_and_nothing_else() {
        let oracle = oracle();
        for p in 0..=3 {
            assert_eq!(oracle.check(&oracle.state_after(p), 0, "a prefix"), p);
        }
        assert_eq!(oracle.state(), &oracle.state_after(3));
        let mut half = oracle.state_after(2);
        half.remove(&(0, b"b".to_vec()));
        assert!(catch_unwind(|| oracle.check(&half, 0, "half a batch")).is_err());
        let mut strange = oracle.state_after(2);
        strange.insert((1, b"b".to_vec()), b"2".to_vec());
        assert!(catch_unwind(|| oracle.check(&strange, 0, "of another family")).is_err());
        assert!(catch_unwind(|| oracle.check(&oracle.state_after(1), 2, "too little")).is_err());
        assert_eq!((oracle.len(), oracle.acknowledged(), oracle.durable()), (3, 2, 2));
    }

    #[test]
    fn the_oracle_knows_what_was_durable_when() {
        let oracle = oracle();
        assert_eq!((oracle.durable_at(10), oracle.durable_at(11)), (0, 2));
        let mut fork = oracle.fork(1);
        fork.begin(vec![put("c", "4")]);
        assert_eq!((fork.next_number(), fork.durable()), (5, 1));
        assert!(catch_unwind(|| fork.check(&oracle.state_after(2), 0, "cut off")).is_err());
    }
}
