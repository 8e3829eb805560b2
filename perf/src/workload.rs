//! The workloads by name, as `--benchmarks` takes them.

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, Result, bail, ensure};

/// The list that stands for `all`: every row of the report, in an order in
/// which each finds the database that it needs.
pub const ALL: &str = "fillseq,fillbatch,fillsync,fillsync@4,fillsync@16,fillrandom@2,\
     fillrandom@4,fillrandom,readrandom:unsettled,waitidle,compact,readrandom,readrandom@2,\
     readmissing,readzipf,multireadrandom,readseq,readreverse,seekrandom,seekrandom:50,reopen,\
     overwrite,waitidle:overwritten,readwhilewriting,waitidle:readwhilewriting,\
     ycsba,ycsbb,ycsbc,ycsbf,ycsbd,ycsbe,transactions,transactions@2,transactions@2:100,\
     deleterandom";

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Stores every key once, in the order of their indices; a fresh database.
    FillSeq,
    /// Stores every key once, in random order; a fresh database.
    FillRandom,
    /// The same in atomic batches.
    FillBatch,
    /// The same with a sync each, fewer of them.
    FillSync,
    /// Stores `num` keys chosen at random anew.
    Overwrite,
    /// Looks up keys that are there.
    ReadRandom,
    /// Looks up keys that are not.
    ReadMissing,
    /// Looks up keys, few of them often.
    ReadZipf,
    /// Looks up keys that are there, many in one call.
    MultiReadRandom,
    /// Walks all entries forward, again and again.
    ReadSeq,
    /// Walks all entries backward.
    ReadReverse,
    /// Positions at a key that is there and walks on.
    SeekRandom,
    /// Looks up keys while another thread overwrites.
    ReadWhileWriting,
    /// Deletes every key, in random order.
    DeleteRandom,
    /// Compacts everything.
    Compact,
    /// Waits until no background work is due.
    WaitIdle,
    /// Closes, and opens again; the opening and one read are timed.
    Reopen,
    /// Half reads, half updates, Zipfian.
    YcsbA,
    /// 95 % reads, 5 % updates, Zipfian.
    YcsbB,
    /// Reads, Zipfian.
    YcsbC,
    /// 95 % reads of recent keys, 5 % inserts.
    YcsbD,
    /// 95 % scans of 1 to 100 entries, 5 % inserts.
    YcsbE,
    /// Half reads, half read-modify-writes, Zipfian.
    YcsbF,
    /// Reads two keys for update and writes them, in a transaction.
    Transactions,
}

const NAMES: &[(&str, Kind)] = &[
    ("fillseq", Kind::FillSeq),
    ("fillrandom", Kind::FillRandom),
    ("fillbatch", Kind::FillBatch),
    ("fillsync", Kind::FillSync),
    ("overwrite", Kind::Overwrite),
    ("readrandom", Kind::ReadRandom),
    ("readmissing", Kind::ReadMissing),
    ("readzipf", Kind::ReadZipf),
    ("multireadrandom", Kind::MultiReadRandom),
    ("readseq", Kind::ReadSeq),
    ("readreverse", Kind::ReadReverse),
    ("seekrandom", Kind::SeekRandom),
    ("readwhilewriting", Kind::ReadWhileWriting),
    ("deleterandom", Kind::DeleteRandom),
    ("compact", Kind::Compact),
    ("waitidle", Kind::WaitIdle),
    ("reopen", Kind::Reopen),
    ("ycsba", Kind::YcsbA),
    ("ycsbb", Kind::YcsbB),
    ("ycsbc", Kind::YcsbC),
    ("ycsbd", Kind::YcsbD),
    ("ycsbe", Kind::YcsbE),
    ("ycsbf", Kind::YcsbF),
    ("transactions", Kind::Transactions),
];

impl Kind {
    /// Whether it begins with an empty database.
    pub fn is_fill(self) -> bool {
        matches!(self, Kind::FillSeq | Kind::FillRandom | Kind::FillBatch | Kind::FillSync)
    }

    /// Whether it only reads, so that a cold cache is worth asking for.
    pub fn is_read(self) -> bool {
        use Kind::*;
        matches!(
            self,
            ReadRandom
                | ReadMissing
                | ReadZipf
                | MultiReadRandom
                | ReadSeq
                | ReadReverse
                | SeekRandom
                | YcsbC
        )
    }
}

/// A workload of a list: `NAME[@THREADS][:VARIANT]`.
///
/// The variant of `seekrandom` is its number of entries a seek, that of
/// `transactions` the number of keys that they choose from, that of
/// `readwhilewriting` how many thousand keys a second its writer stores, if it can;
/// elsewhere it is a word that tells two rows of one name apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// What is done.
    pub kind: Kind,
    /// By how many threads; `None` takes `--threads`.
    pub threads: Option<usize>,
    /// What stands behind the colon.
    pub variant: Option<String>,
    name: &'static str,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        self.threads.iter().try_for_each(|threads| write!(f, "@{threads}"))?;
        self.variant.iter().try_for_each(|variant| write!(f, ":{variant}"))
    }
}

impl FromStr for Workload {
    type Err = Error;

    fn from_str(text: &str) -> Result<Workload> {
        let (rest, variant) = match text.split_once(':') {
            Some((rest, variant)) => (rest, Some(variant.to_owned())),
            None => (text, None),
        };
        let (name, threads) = match rest.split_once('@') {
            Some((name, threads)) => {
                let threads = threads.parse().ok().filter(|n| (1..=256).contains(n));
                ensure!(threads.is_some(), "{text:?}: 1 to 256 threads");
                (name, threads)
            }
            None => (rest, None),
        };
        let Some((name, kind)) = NAMES.iter().find(|(known, _)| *known == name) else {
            let known: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            bail!("unknown benchmark {name:?}; known are all, {}", known.join(", "));
        };
        let workload = Workload { kind: *kind, threads, variant, name };
        if *kind == Kind::SeekRandom && workload.variant.is_some() {
            ensure!(workload.seek_nexts().is_some(), "{text:?}: a number of entries after ':'");
        }
        if *kind == Kind::Transactions && workload.variant.is_some() {
            let keys = workload.keys().is_some_and(|keys| keys >= 2);
            ensure!(keys, "{text:?}: a number of keys after ':', at least 2");
        }
        if *kind == Kind::ReadWhileWriting && workload.variant.is_some() {
            let rate = workload.write_rate().is_some();
            ensure!(rate, "{text:?}: thousands of writes a second after ':'");
        }
        Ok(workload)
    }
}

impl Workload {
    /// The number of entries a seek that the variant states.
    pub fn seek_nexts(&self) -> Option<usize> {
        self.variant.as_ref()?.parse().ok().filter(|n| *n > 0)
    }

    /// The number of keys that transactions choose from, if the variant states one.
    pub fn keys(&self) -> Option<u64> {
        self.variant.as_ref()?.parse().ok()
    }

    /// How many keys a second the writer beside readers stores on average, if the
    /// variant states it.
    pub fn write_rate(&self) -> Option<u64> {
        self.variant
            .as_ref()?
            .parse()
            .ok()
            .filter(|n| (1..=1_000_000).contains(n))
            .map(|n: u64| n * 1000)
    }

    /// Parses a comma-separated list; `all` stands for [`ALL`].
    ///
    /// # Errors
    ///
    /// An unknown name, an empty list, two equal rows, reading before any fill.
    pub fn parse_list(list: &str) -> Result<Vec<Workload>> {
        let list = if list == "all" { ALL } else { list };
        let workloads: Vec<Workload> =
            list.split(',').map(|text| text.trim().parse()).collect::<Result<_>>()?;
        for (i, workload) in workloads.iter().enumerate() {
            let twice = workloads[..i].iter().any(|earlier| earlier == workload);
            ensure!(!twice, "{workload} twice: tell them apart, as in {workload}:again");
        }
        Ok(workloads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_parsed_and_shown_alike() {
        let rows = Workload::parse_list("all").expect("all is valid");
        let shown: Vec<String> = rows.iter().map(Workload::to_string).collect();
        assert_eq!(shown.join(","), ALL);
        for (name, _) in NAMES {
            assert!(rows.iter().any(|row| row.name == *name), "{name} is part of all");
        }
        let row: Workload = "seekrandom@3:50".parse().expect("valid");
        assert_eq!(
            (row.kind, row.threads, row.seek_nexts()),
            (Kind::SeekRandom, Some(3), Some(50))
        );
    }

    #[test]
    fn a_writer_beside_readers_may_have_a_rate() {
        let rate = |row: &str| row.parse::<Workload>().expect("valid").write_rate();
        assert_eq!(rate("readwhilewriting"), None);
        assert_eq!(rate("readwhilewriting@2:100"), Some(100_000));
    }

    #[test]
    fn bad_lists_say_what_is_wrong() {
        for (list, reason) in [
            ("fillsseq", "unknown benchmark \"fillsseq\""),
            ("", "unknown benchmark"),
            ("readseq@0", "1 to 256 threads"),
            ("readseq@x", "1 to 256 threads"),
            ("seekrandom:many", "a number of entries"),
            ("transactions:hot", "a number of keys"),
            ("transactions:1", "at least 2"),
            ("readwhilewriting:0", "thousands of writes"),
            ("readwhilewriting:fast", "thousands of writes"),
            ("readseq,readseq", "readseq twice"),
        ] {
            let error = Workload::parse_list(list).expect_err(list).to_string();
            assert!(error.contains(reason), "{list}: {error}");
        }
    }
}
