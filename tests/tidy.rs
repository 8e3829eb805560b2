//! Holds the house rules that neither the compiler nor clippy can: the ranks
//! of the modules, where `unsafe` may stand, and how large things may get.
//!
//! Every check works on [`Source`]: a file whose comments and literals have
//! been blanked out (same length, same lines), so that prose and strings never
//! trip it. The heuristics are lexical, so each one is itself tested on planted
//! violations at the end: a check that cannot fail is a defect.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The layers: a module uses only modules of a lower rank, itself, and what
/// [`SAME_RANK`] and [`EXCEPTIONS`] list. Ranks 3 and up may use their equals.
const RANKS: &[(&str, u32)] = &[
    // No I/O.
    ("error", 0),
    ("events", 0),
    ("config", 0),
    ("types", 0),
    ("util", 0),
    ("compress", 0),
    ("stats", 0),
    // The outside world.
    ("env", 1),
    // Single-purpose structures that do not know each other.
    ("batch", 2),
    ("memtable", 2),
    ("wal", 2),
    ("filter", 2),
    ("sstable", 2),
    ("cache", 2),
    // What a column family consists of, and walking over it.
    ("version", 3),
    ("iterator", 3),
    // Changing it.
    ("compaction", 4),
    ("commit", 4),
    // The database.
    ("db", 5),
    ("snapshot", 5),
    ("transaction", 5),
    ("checkpoint", 5),
    ("check", 5),
    ("repair", 5),
    ("inspect", 5),
    // On top of it.
    ("metrics", 6),
    // Only in builds for the fuzzer and for tests.
    ("fuzzing", 6),
];

/// Ranks 0 (whose modules are vocabulary) and from this one on are free among
/// themselves; those between are strangers to each other.
const RANK_FREE_FROM: u32 = 3;

/// References between strangers of one rank: from, to.
const SAME_RANK: &[(&str, &str)] = &[
    ("sstable", "filter"),
    ("sstable", "cache"),
    // The log's payload is a batch: replay takes it apart.
    ("wal", "batch"),
];

/// Upward references that are tolerated: from, path, why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("config", "crate::env", "Options name the file system to live on"),
    ("config", "crate::snapshot", "ReadOptions name the snapshot to read at"),
    ("memtable", "crate::iterator::InternalIterator", "the contract that every sorted run meets"),
    ("sstable", "crate::iterator::InternalIterator", "the contract that every sorted run meets"),
];

/// Where `unsafe` may stand; a trailing slash means everything below.
const UNSAFE_HOMES: &[&str] = &[
    "src/memtable/",
    "src/env/",
    "src/version/super_version.rs",
    "src/types/slice.rs",
    // One instruction that cannot fault.
    "src/util/prefetch.rs",
    // Vector instructions that every x86-64 has.
    "src/util/simd.rs",
    // The models' `from_ptr`, as that of the atomics it stands for.
    "src/util/sync.rs",
    // Implement unsafe methods: of `WalBackend`, and `Env::map`.
    "src/wal/tests/mem_env.rs",
    "src/version/test_env.rs",
    "src/sstable/tests.rs",
];

/// Lines of a file without its tests.
const FILE_LINES_MAX: usize = 600;
/// Lines of a function from its `fn` to its closing brace. Aim at 70.
const FUNCTION_LINES_MAX: usize = 100;

/// Directories that hold Rust sources of this workspace.
const ROOTS: &[&str] =
    &["src", "tests", "examples", "benches", "perf/src", "perf/benches", "fuzz/fuzz_targets"];

// ---- the sources ----------------------------------------------------------

/// A Rust file, its text, and the text with comments and literals blanked.
struct Source {
    /// Relative to the repository, with `/`.
    path: String,
    text: String,
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Source {
        Source { path: path.into(), text: text.into(), code: blank_prose(text) }
    }

    fn line_of(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }

    fn finding(&self, at: usize, what: &str) -> String {
        format!("{}:{}: {what}", self.path, self.line_of(at))
    }

    /// Whether the whole file is a test: its helpers and limits are its own.
    fn is_test(&self) -> bool {
        !self.path.starts_with("src/") && !self.path.starts_with("perf/src/")
            || self.path.split('/').any(|part| part == "tests" || part == "tests.rs")
    }

    /// The top-level module of `src/` that the file belongs to.
    fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let first = inside.split('/').next()?;
        match first.strip_suffix(".rs").unwrap_or(first) {
            "lib" | "bin" => None,
            module => Some(module),
        }
    }

    /// How many `super` lead from the file's module to the root.
    fn depth(&self) -> usize {
        let parts = self.path.split('/').count() - 1;
        if self.path.ends_with("/mod.rs") { parts - 1 } else { parts }
    }
}

/// The text with comments, strings and character literals as spaces.
fn blank_prose(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = prose_end(bytes, at);
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(out).expect("whole literals and comments were blanked")
}

/// The end of the comment or literal that starts at `at`; `at` if none does.
fn prose_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let inside_word = at > 0 && is_word(bytes[at - 1]);
    if rest.starts_with(b"//") {
        return at + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return block_comment_end(bytes, at);
    }
    let prefix =
        if inside_word { 0 } else { rest.iter().take_while(|b| b"bcr".contains(b)).count() };
    let hashes = rest[prefix..].iter().take_while(|b| **b == b'#').count();
    if prefix > 0 && rest[..prefix].contains(&b'r') && rest.get(prefix + hashes) == Some(&b'"') {
        let close = format!("\"{}", "#".repeat(hashes));
        let body = prefix + hashes + 1;
        let end =
            find(&rest[body..], close.as_bytes()).map_or(rest.len(), |i| body + i + close.len());
        return at + end;
    }
    match rest.first() {
        Some(b'"') => quoted_end(bytes, at, b'"'),
        // A lifetime has no closing quote right after its first character.
        Some(b'\'') if rest.get(1) == Some(&b'\\') => quoted_end(bytes, at, b'\''),
        Some(b'\'') => {
            let width = rest.get(1).map_or(1, |b| match b {
                0xf0.. => 4,
                0xe0.. => 3,
                0xc0.. => 2,
                _ => 1,
            });
            if rest.get(1 + width) == Some(&b'\'') { at + width + 2 } else { at }
        }
        _ => at,
    }
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < bytes.len() {
        match &bytes[at..(at + 2).min(bytes.len())] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

fn quoted_end(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Byte offsets at which `word` stands as a whole word.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = code.as_bytes();
    let word_at = |at: usize| bytes.get(at).is_some_and(|b| is_word(*b));
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let begins = *at == 0 || !word_at(at - 1);
        begins && !word_at(at + word.len())
    })
}

/// The end of the item that starts at `at`: past its braces or its semicolon.
fn item_end(code: &str, at: usize) -> usize {
    let mut nested = 0usize;
    let mut braces = 0usize;
    for (i, byte) in code.bytes().enumerate().skip(at) {
        match byte {
            b'(' | b'[' => nested += 1,
            b')' | b']' => nested = nested.saturating_sub(1),
            b'{' => braces += 1,
            b'}' => {
                braces = braces.saturating_sub(1);
                if braces == 0 {
                    return i + 1;
                }
            }
            b';' if nested == 0 && braces == 0 => return i + 1,
            _ => {}
        }
    }
    code.len()
}

/// The items under `#[cfg(test)]`, as byte ranges.
fn test_items(code: &str) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for (at, attribute) in code.match_indices("#[cfg(test)]") {
        if ranges.last().is_none_or(|r| r.end <= at) {
            ranges.push(at..item_end(code, at + attribute.len()));
        }
    }
    ranges
}

/// The code with its tests blanked.
fn without_tests(code: &str) -> String {
    let mut out = code.as_bytes().to_vec();
    for range in test_items(code) {
        for byte in &mut out[range] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
    }
    String::from_utf8(out).expect("whole items were blanked")
}

// ---- the checks -------------------------------------------------------------

fn rank(module: &str) -> Option<u32> {
    RANKS.iter().find(|(name, _)| *name == module).map(|(_, rank)| *rank)
}

/// The paths from the root that `code` names, as `crate::a::b`, with offsets;
/// groups are spread out and chains of `super` that reach the root resolved.
fn crate_paths(code: &str, depth: usize) -> Vec<(usize, String)> {
    let mut paths = Vec::new();
    for at in words(code, "crate") {
        if let Some(tail) = code[at..].strip_prefix("crate::") {
            spread(tail, "crate", at, &mut paths);
        }
    }
    let to_root = "super::".repeat(depth);
    for at in words(code, "super") {
        let continues = code[..at].ends_with("super::");
        if let Some(tail) = code[at..].strip_prefix(&to_root)
            && !continues
            && !tail.starts_with("super")
        {
            spread(tail, "crate", at, &mut paths);
        }
    }
    paths
}

/// Adds the paths that `tail` continues `base` with.
fn spread(tail: &str, base: &str, at: usize, paths: &mut Vec<(usize, String)>) {
    let tail = tail.trim_start();
    if let Some(group) = tail.strip_prefix('{') {
        let mut nested = 0;
        let mut start = 0;
        for (i, c) in group.char_indices() {
            match c {
                ',' | '}' if nested == 0 => {
                    if !group[start..i].trim().is_empty() {
                        spread(&group[start..i], base, at, paths);
                    }
                    start = i + 1;
                    if c == '}' {
                        return;
                    }
                }
                '{' => nested += 1,
                '}' => nested -= 1,
                _ => {}
            }
        }
        return;
    }
    let name: String = tail.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let path = format!("{base}::{name}");
    match tail[name.len()..].strip_prefix("::") {
        Some(rest) if !name.is_empty() && !rest.starts_with('<') => spread(rest, &path, at, paths),
        _ => paths.push((at, path)),
    }
}

fn check_ranks(source: &Source) -> Vec<String> {
    let Some(from) = source.module() else { return Vec::new() };
    let Some(from_rank) = rank(from) else {
        return vec![format!("{}: module `{from}` is not in the rank table", source.path)];
    };
    if source.is_test() {
        return Vec::new();
    }
    let code = without_tests(&source.code);
    let mut findings = Vec::new();
    for (at, path) in crate_paths(&code, source.depth()) {
        let to = path.split("::").nth(1).unwrap_or_default();
        let excepted = EXCEPTIONS.iter().any(|(module, allowed, _)| {
            *module == from
                && path.strip_prefix(allowed).is_some_and(|r| r.is_empty() || r.starts_with("::"))
        });
        if to == from || excepted {
            continue;
        }
        match rank(to) {
            None => findings.push(source.finding(
                at,
                &format!("`{path}`: name the module that defines it, one of the rank table"),
            )),
            Some(to_rank) if to_rank > from_rank => findings.push(source.finding(
                at,
                &format!("`{from}` (rank {from_rank}) refers up to `{path}` (rank {to_rank})"),
            )),
            Some(to_rank)
                if to_rank == from_rank
                    && (1..RANK_FREE_FROM).contains(&from_rank)
                    && !SAME_RANK.contains(&(from, to)) =>
            {
                findings.push(source.finding(
                    at,
                    &format!("`{from}` and `{to}` (rank {from_rank}) do not know each other"),
                ));
            }
            Some(_) => {}
        }
    }
    findings
}

fn check_unsafe(source: &Source) -> Vec<String> {
    let governed = source.path.starts_with("src/") || source.path.starts_with("examples/");
    let home = UNSAFE_HOMES.iter().any(|home| {
        if home.ends_with('/') { source.path.starts_with(home) } else { source.path == *home }
    });
    if !governed || home {
        return Vec::new();
    }
    words(&source.code, "unsafe")
        .map(|at| source.finding(at, "`unsafe` outside its homes"))
        .collect()
}

fn check_file_size(source: &Source) -> Vec<String> {
    if source.is_test() {
        return Vec::new();
    }
    let tests: usize = test_items(&source.code)
        .into_iter()
        .map(|range| source.code[range].matches('\n').count() + 1)
        .sum();
    let lines = source.text.lines().count().saturating_sub(tests);
    if lines <= FILE_LINES_MAX {
        return Vec::new();
    }
    vec![format!("{}: {lines} lines without tests, over {FILE_LINES_MAX}", source.path)]
}

fn check_function_size(source: &Source) -> Vec<String> {
    if source.is_test() {
        return Vec::new();
    }
    let code = without_tests(&source.code);
    let mut findings = Vec::new();
    for at in words(&code, "fn") {
        let name = code[at + 2..].trim_start();
        // `fn(..)` is a type, not a function.
        if !name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            continue;
        }
        let lines = code[at..item_end(&code, at)].matches('\n').count() + 1;
        if lines > FUNCTION_LINES_MAX {
            let name = name.split(|c: char| !c.is_alphanumeric() && c != '_').next();
            findings.push(source.finding(
                at,
                &format!(
                    "`{}` has {lines} lines, over {FUNCTION_LINES_MAX}",
                    name.unwrap_or_default()
                ),
            ));
        }
    }
    findings
}

/// `allow` attributes and unfinished work.
fn check_bans(source: &Source) -> Vec<String> {
    let mut findings = Vec::new();
    for at in words(&source.code, "allow") {
        let before = source.code[..at].trim_end();
        let attribute = before.ends_with("#[") || before.ends_with("#![") || before.ends_with(',');
        if attribute && source.code[at + 5..].trim_start().starts_with('(') {
            findings.push(source.finding(at, "`allow`: use `expect` with a reason"));
        }
    }
    for banned in ["todo", "unimplemented", "dbg"] {
        for at in words(&source.code, banned) {
            if source.code[at + banned.len()..].starts_with('!') {
                findings.push(source.finding(at, &format!("`{banned}!` is unfinished work")));
            }
        }
    }
    findings
}

fn check_opening(source: &Source) -> Vec<String> {
    if source.text.starts_with("//!") {
        return Vec::new();
    }
    vec![format!("{}: a file opens with its argument, as `//!` documentation", source.path)]
}

const CHECKS: &[fn(&Source) -> Vec<String>] =
    &[check_ranks, check_unsafe, check_file_size, check_function_size, check_bans, check_opening];

// ---- the house ----------------------------------------------------------------

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    let entries = dir.read_dir().unwrap_or_else(|e| panic!("list {}: {e}", dir.display()));
    for entry in entries {
        let path = entry.expect("a readable directory entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test that reads the sources of the project")]
fn house() -> Vec<Source> {
    let mut files = Vec::new();
    for root in ROOTS {
        let dir = repository().join(root);
        if dir.is_dir() {
            collect(&dir, &mut files);
        }
    }
    files.sort();
    let relative = |file: &Path| {
        let path = file.strip_prefix(repository()).expect("collected below the repository");
        path.to_str().expect("a UTF-8 path").to_owned()
    };
    let read = |file: &Path| std::fs::read(file).expect("a readable source");
    files
        .iter()
        .map(|file| {
            Source::new(&relative(file), &String::from_utf8(read(file)).expect("UTF-8 source"))
        })
        .collect()
}

#[test]
fn the_house_is_tidy() {
    let house = house();
    // Not vacuously so.
    for expected in ["src/lib.rs", "src/types/slice.rs", "src/wal/format.rs", "tests/tidy.rs"] {
        assert!(house.iter().any(|s| s.path == expected), "{expected} was not visited");
    }
    let mut report = String::new();
    for finding in house.iter().flat_map(|s| CHECKS.iter().flat_map(move |check| check(s))) {
        writeln!(report, "{finding}").expect("a String takes everything");
    }
    assert!(report.is_empty(), "\n{report}");
}

#[test]
fn the_rank_table_is_sound() {
    for (i, (module, _)) in RANKS.iter().enumerate() {
        assert!(RANKS[..i].iter().all(|(other, _)| other != module), "{module} is listed twice");
    }
    for (from, to) in SAME_RANK {
        assert_eq!(rank(from), rank(to), "{from} and {to} are not of one rank");
    }
    for (from, path, reason) in EXCEPTIONS {
        let to = path.split("::").nth(1).and_then(rank);
        assert!(to > rank(from), "{from} needs no exception for {path}");
        assert!(!reason.is_empty());
    }
}

// ---- the checks can fail ----------------------------------------------------

/// The findings of `check` on a planted file.
fn planted(check: fn(&Source) -> Vec<String>, path: &str, text: &str) -> Vec<String> {
    check(&Source::new(path, text))
}

#[track_caller]
fn assert_caught(check: fn(&Source) -> Vec<String>, path: &str, text: &str) {
    assert_eq!(planted(check, path, text).len(), 1, "{path}: {text}");
}

#[track_caller]
fn assert_clean(check: fn(&Source) -> Vec<String>, path: &str, text: &str) {
    assert_eq!(planted(check, path, text), Vec::<String>::new(), "{path}: {text}");
}

#[test]
fn upward_references_are_caught() {
    for text in [
        "use crate::db::Db;",
        "fn f() { crate::db::open(); }",
        "use crate::{error::Error, db::Db};",
        "use crate::{db, error};",
        "use crate::{\n    error::{Error, Result},\n    db::{Db},\n};",
        "pub(in crate::db) fn f() {}",
        "use super::super::db::Db;",
        "use crate::iterator::merging::MergingIterator;",
        "#[cfg(test)]\nuse std::fmt;\nuse crate::db::Db;",
        "#[cfg(test)]\nmod tests { fn f() {} }\nuse crate::db::Db;",
        "use crate::Db;",
    ] {
        assert_caught(check_ranks, "src/sstable/reader.rs", text);
    }
    assert_caught(check_ranks, "src/error.rs", "use super::db::Db;");
    assert_caught(check_ranks, "src/error.rs", "use crate::env::Env;");
    assert_caught(check_ranks, "src/wal/mod.rs", "use super::db::Db;");
}

#[test]
fn downward_references_and_prose_are_not() {
    for text in [
        "use crate::error::Error;\nuse crate::env::{Env, Region};\nuse super::block::Block;",
        "use crate::sstable::format;",
        "use crate::iterator::InternalIterator;",
        "//! Like crate::db::Db.\n/* crate::db /* nested */ crate::db */",
        "const S: &str = \"crate::db\"; const R: &str = r#\"a \" crate::db\"#; const C: char = '\"';",
        "fn f<'a>(x: &'a str) -> char { '\\'' } // crate::db",
        "#[cfg(test)]\nmod tests {\n    use crate::db::Db;\n    fn f() {}\n}",
        "#[cfg(test)]\nuse crate::db::Db;",
    ] {
        assert_clean(check_ranks, "src/sstable/reader.rs", text);
    }
    assert_clean(check_ranks, "src/config.rs", "use crate::snapshot::Snapshot;");
    assert_clean(check_ranks, "src/sstable/tests.rs", "use crate::db::Db;");
    assert_clean(check_ranks, "src/lib.rs", "pub use crate::db::Db;");
    // One `super` from a file two levels down does not reach the root.
    assert_clean(check_ranks, "src/wal/reader.rs", "use super::db::Db;");
}

#[test]
fn strangers_of_one_rank_are_caught_and_neighbours_are_not() {
    assert_caught(check_ranks, "src/sstable/reader.rs", "use crate::memtable::MemTable;");
    assert_caught(check_ranks, "src/wal/writer.rs", "use crate::memtable::MemTable;");
    assert_caught(check_ranks, "src/cache/mod.rs", "use crate::sstable::Block;");
    assert_clean(check_ranks, "src/sstable/reader.rs", "use crate::filter::bloom;");
    assert_clean(check_ranks, "src/sstable/reader.rs", "use crate::cache::BlockCache;");
    assert_clean(check_ranks, "src/iterator/level.rs", "use crate::version::Version;");
    assert_clean(check_ranks, "src/config.rs", "use crate::error::Error;");
}

#[test]
fn modules_outside_the_table_are_caught() {
    assert_caught(check_ranks, "src/helpers.rs", "");
    assert_caught(check_ranks, "src/helpers/mod.rs", "");
    assert_caught(check_ranks, "src/db/mod.rs", "use crate::helpers::f;");
}

#[test]
fn unsafe_outside_its_homes_is_caught() {
    let text = "fn f() { unsafe { g() } }";
    assert_caught(check_unsafe, "src/db/read.rs", text);
    assert_caught(check_unsafe, "src/types/key.rs", text);
    assert_caught(check_unsafe, "src/version/set.rs", "unsafe impl Send for X {}");
    assert_caught(check_unsafe, "src/bin/aidb/main.rs", text);
    assert_clean(check_unsafe, "src/memtable/arena.rs", text);
    assert_clean(check_unsafe, "src/version/super_version.rs", text);
    assert_clean(
        check_unsafe,
        "src/db/read.rs",
        "// unsafe\nfn unsafe_free() -> &str { \"unsafe\" }",
    );
}

#[test]
fn large_files_and_functions_are_caught() {
    let lines = |n: usize| "const X: u8 = 0;\n".repeat(n);
    assert_caught(check_file_size, "src/db/mod.rs", &lines(FILE_LINES_MAX + 1));
    assert_clean(check_file_size, "src/db/mod.rs", &lines(FILE_LINES_MAX));
    let tested = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", lines(FILE_LINES_MAX), lines(500));
    assert_clean(check_file_size, "src/db/mod.rs", &tested);
    let after = format!("#[cfg(test)]\nmod tests;\n{}", lines(FILE_LINES_MAX + 1));
    assert_caught(check_file_size, "src/db/mod.rs", &after);
    assert_clean(check_file_size, "src/db/tests.rs", &lines(FILE_LINES_MAX + 1));

    let function = |n: usize| format!("pub fn f(a: [u8; 2]) -> u8 {{\n{}}}\n", "a();\n".repeat(n));
    assert_caught(check_function_size, "src/db/mod.rs", &function(FUNCTION_LINES_MAX - 1));
    assert_clean(check_function_size, "src/db/mod.rs", &function(FUNCTION_LINES_MAX - 2));
    let braces = format!("fn f() {{ g('{{', \"{{\"); }}\n{}", lines(FUNCTION_LINES_MAX));
    assert_clean(check_function_size, "src/db/mod.rs", &braces);
    let types = format!("type F = fn();\ntrait T {{ fn f(); }}\n{}", lines(FUNCTION_LINES_MAX));
    assert_clean(check_function_size, "src/db/mod.rs", &types);
}

#[test]
fn bans_are_caught() {
    for text in [
        "#[allow(dead_code)]",
        "#![allow(dead_code)]",
        "#[ allow ( dead_code ) ]",
        "#[cfg_attr(test, allow(dead_code))]",
        "fn f() { todo!() }",
        "fn f() { unimplemented!(\"x\") }",
        "fn f() { std::dbg!(1) }",
    ] {
        assert_caught(check_bans, "tests/x.rs", text);
    }
    assert_clean(check_bans, "src/db/mod.rs", "// #[allow(x)] todo!()\nfn allow(todo: bool) {}");
}

#[test]
fn files_without_an_opening_are_caught() {
    assert_caught(check_opening, "examples/basic.rs", "use std::fmt;\n");
    assert_caught(check_opening, "examples/basic.rs", "// plain\n");
    assert_clean(check_opening, "examples/basic.rs", "//! Why.\n");
}
