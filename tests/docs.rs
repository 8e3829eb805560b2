//! What the documentation says is run: every `sh` block of its pages, in the
//! order of the page, in one shell with a temporary directory and the built
//! `aidb`; what a block prints is compared with the `text output` block right
//! behind it, if there is one. (The Rust blocks are documentation tests: see the
//! end of `src/lib.rs`.)
//!
//! A block that cannot be run here is an `sh not-run` block, begins with
//! [`REASON`] and why, and is counted in [`NOT_RUN`]. A block that takes minutes
//! is an `sh long` block, runs if `AIDB_LONG` is set, and is counted in
//! [`LONG`]. Besides: links lead somewhere, the troubleshooting page names every
//! error, and the tuning guide every option, with the default that it has.
#![cfg(feature = "cli")]
#![expect(clippy::disallowed_methods, reason = "reads the documentation, writes a test directory")]

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aidb::{ColumnFamilyOptions, Options, ReadOptions, WriteOptions};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Pages outside of `docs/`.
const OTHER_PAGES: &[&str] = &["README.md", "CONTRIBUTING.md", "perf/README.md", "fuzz/README.md"];

/// How many blocks of a page are not run.
const NOT_RUN: &[(&str, usize)] = &[
    ("CONTRIBUTING.md", 1),
    ("README.md", 1),
    ("docs/reliability.md", 2),
    ("docs/troubleshooting.md", 1),
    ("fuzz/README.md", 1),
    ("perf/README.md", 1),
];

/// How many blocks of a page are run only if `AIDB_LONG` is set.
const LONG: &[(&str, usize)] = &[("docs/quick-start.md", 1)];

/// How a block that is not run begins, so that its reader learns why.
const REASON: &str = "# Not run by the tests: ";

/// What blocks may be of: what is here and not `sh` or `rust` holds no commands,
/// or, in `console`, those that the tests of the tool run.
const LANGUAGES: &[&str] =
    &["sh", "sh not-run", "sh long", "rust", "text", "text output", "toml", "mermaid", "console"];

/// Separates the output of a block from that of the next.
const MARK: &str = "\u{1}";

/// A fenced block of a page.
#[derive(Debug)]
struct Block {
    language: String,
    text: String,
    /// Line of the opening fence, from 1.
    line: usize,
    /// Nothing but blank lines between this and the block before.
    follows: bool,
}

/// The fenced blocks of a page, or what is wrong with its fences.
fn blocks(page: &str) -> Result<Vec<Block>, String> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open: Option<Block> = None;
    let mut follows = false;
    for (line, text) in (1..).zip(page.lines()) {
        match (text.trim_start().strip_prefix("```"), &mut open) {
            (Some(language), None) => {
                let language = language.trim().to_owned();
                open = Some(Block { language, text: String::new(), line, follows });
            }
            (Some(""), Some(_)) => {
                blocks.extend(open.take());
                follows = true;
            }
            (Some(_), Some(block)) => {
                return Err(format!("{}: a fence within a block", block.line));
            }
            (None, Some(block)) => {
                block.text.push_str(text);
                block.text.push('\n');
            }
            (None, None) => follows &= text.trim().is_empty(),
        }
    }
    match open {
        Some(block) => Err(format!("{}: a block without an end", block.line)),
        None => Ok(blocks),
    }
}

/// Whether `output` is what a page shows: a line `...` stands for any lines.
fn is_as_shown(shown: &[&str], output: &[&str]) -> bool {
    match shown.split_first() {
        None => output.is_empty(),
        Some((&"...", rest)) => (0..=output.len()).any(|n| is_as_shown(rest, &output[n..])),
        Some((line, rest)) => {
            output.first() == Some(line) && is_as_shown(rest, output.get(1..).unwrap_or_default())
        }
    }
}

/// The names of the pages, from the root.
fn pages() -> Vec<String> {
    let docs = std::fs::read_dir(Path::new(ROOT).join("docs")).expect("docs/");
    let names = docs.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut pages: Vec<String> =
        names.filter(|n| n.ends_with(".md")).map(|n| format!("docs/{n}")).collect();
    pages.extend(OTHER_PAGES.iter().map(|page| (*page).to_owned()));
    pages.sort();
    pages
}

fn read(page: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(page)).unwrap_or_else(|e| panic!("{page}: {e}"))
}

/// Stands for `cargo`: programs that are built already are started, and nothing
/// is built twice. Anything else is cargo's.
const CARGO: &str = r#"#!/bin/bash
set -eu
all="$*"
case "$all" in
    "run "*"--features cli --bin aidb -- "*)
        while [ "$1" != -- ]; do shift; done
        shift
        exec aidb "$@" ;;
    "run "*"--example "*)
        program="$BUILT/examples/${all##* }"
        if [ -x "$program" ]; then exec "$program"; fi
        set -- "$@" --manifest-path "$ROOT/Cargo.toml" ;;
esac
exec "$CARGO" "$@"
"#;

/// A place in which the blocks of a page find what they name.
fn workplace() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for name in ["bin", "work"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    let at = |name: &str| dir.path().join(name);
    symlink(env!("CARGO_BIN_EXE_aidb"), at("bin/aidb")).unwrap();
    std::fs::write(at("bin/cargo"), CARGO).unwrap();
    std::fs::set_permissions(at("bin/cargo"), PermissionsExt::from_mode(0o755)).unwrap();
    // As if in a checkout, and beside one.
    for name in ["tests", "examples"] {
        symlink(Path::new(ROOT).join(name), at("work").join(name)).unwrap();
    }
    symlink(ROOT, at("work/aidb")).unwrap();
    dir
}

/// Runs the scripts in one shell; returns what each printed, or what went wrong.
fn run(scripts: &[&str]) -> Result<Vec<String>, String> {
    let dir = workplace();
    let path = format!("{}:{}", dir.path().join("bin").display(), std::env::var("PATH").unwrap());
    let program = scripts.iter().map(|s| format!("printf '{MARK}'\n{s}")).collect::<String>();
    let built = Path::new(env!("CARGO_BIN_EXE_aidb")).parent().expect("a directory");
    let output = Command::new("bash")
        .args(["-eu", "-o", "pipefail", "-c", &program])
        .current_dir(dir.path().join("work"))
        .env("PATH", path)
        .env("ROOT", ROOT)
        .env("BUILT", built)
        .env("CARGO", std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
        .env_remove("AIDB_DB")
        .stdin(Stdio::null())
        .output()
        .expect("bash");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut parts: Vec<String> = printed.split(MARK).map(str::to_owned).collect();
    parts.remove(0);
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let (at, last) = (parts.len(), parts.last().map_or("", String::as_str));
        return Err(format!("script {at}: {}\n{last}{complaint}", output.status));
    }
    Ok(parts)
}

/// Runs a page's blocks and compares what they print.
fn check_page(page: &str, text: &str, long: bool) -> Result<usize, String> {
    let blocks = blocks(text).map_err(|what| format!("{page}:{what}"))?;
    let runs = |b: &Block| b.language == "sh" || long && b.language == "sh long";
    let scripts: Vec<&Block> = blocks.iter().filter(|b| runs(b)).collect();
    if scripts.is_empty() {
        return Ok(0);
    }
    let texts: Vec<&str> = scripts.iter().map(|b| &*b.text).collect();
    let lines: Vec<usize> = scripts.iter().map(|b| b.line).collect();
    let outputs = run(&texts).map_err(|what| format!("{page}, blocks {lines:?}: {what}"))?;
    let printed: BTreeMap<usize, &String> = lines.into_iter().zip(&outputs).collect();
    for pair in blocks.windows(2) {
        let [before, shown] = pair else { continue };
        let Some(output) = printed.get(&before.line) else { continue };
        let (shown_lines, lines): (Vec<_>, Vec<_>) =
            (shown.text.lines().collect(), output.lines().collect());
        if shown.language == "text output" && !is_as_shown(&shown_lines, &lines) {
            return Err(format!("{page}:{}: the block before prints\n{output}", shown.line));
        }
    }
    Ok(outputs.len())
}

fn is_long() -> bool {
    std::env::var_os("AIDB_LONG").is_some()
}

#[test]
fn every_command_of_the_documentation_runs() {
    let mut ran = 0;
    let mut wrong = Vec::new();
    for page in pages() {
        match check_page(&page, &read(&page), is_long()) {
            Ok(n) => ran += n,
            Err(what) => wrong.push(what),
        }
    }
    eprintln!("{ran} blocks of commands ran");
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(ran >= 10, "only {ran} blocks of commands were found");
}

#[test]
fn rust_blocks_are_documentation_tests() {
    let library = read("src/lib.rs");
    let mut seen = 0;
    for page in pages() {
        let blocks = blocks(&read(&page)).unwrap_or_else(|what| panic!("{page}:{what}"));
        let rust = blocks.iter().filter(|b| b.language == "rust").count();
        let included = library.contains(&format!("include_str!(\"../{page}\")"));
        assert!(rust == 0 || included, "{page} has {rust} Rust blocks, and is not in src/lib.rs");
        seen += rust;
    }
    assert!(seen >= 10, "only {seen} Rust blocks were found");
}

#[test]
fn blocks_that_are_not_run_say_why_and_are_counted() {
    let mut not_run = BTreeMap::new();
    let mut long = BTreeMap::new();
    for page in pages() {
        for block in blocks(&read(&page)).unwrap_or_else(|what| panic!("{page}:{what}")) {
            let at = format!("{page}:{}", block.line);
            let language = block.language.as_str();
            assert!(LANGUAGES.contains(&language), "{at}: a block of `{language}`");
            match language {
                "sh not-run" => {
                    let why = block.text.lines().next().and_then(|l| l.strip_prefix(REASON));
                    assert!(why.is_some_and(|why| why.len() > 10), "{at}: it does not say why");
                    *not_run.entry(page.clone()).or_insert(0) += 1;
                }
                "sh long" => *long.entry(page.clone()).or_insert(0) += 1,
                "text output" => assert!(block.follows, "{at}: output of which block?"),
                _ => {}
            }
        }
    }
    let counted = |table: &[(&str, usize)]| -> BTreeMap<String, usize> {
        table.iter().map(|(page, n)| ((*page).to_owned(), *n)).collect()
    };
    assert_eq!(not_run, counted(NOT_RUN));
    assert_eq!(long, counted(LONG));
}

/// The text without its blocks.
fn prose(page: &str) -> String {
    let mut inside = false;
    let keep = |line: &&str| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    };
    page.lines().filter(keep).collect::<Vec<_>>().join("\n")
}

/// The targets of a page's Markdown links.
fn links(page: &str) -> Vec<String> {
    let text = prose(page);
    let parts = text.split("](").skip(1);
    parts.filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
}

/// What a heading is called in a link, as GitHub has it.
fn anchors(page: &str) -> BTreeSet<String> {
    let text = prose(page);
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

fn dead_links(page: &str, text: &str) -> Vec<String> {
    let dead = |link: &String| {
        if link.starts_with("https://") || link.starts_with("http://") {
            return false;
        }
        let (file, anchor) = link.split_once('#').map_or((&**link, None), |(f, a)| (f, Some(a)));
        let target: PathBuf = match file {
            "" => Path::new(ROOT).join(page),
            file => Path::new(ROOT).join(page).with_file_name("").join(file),
        };
        if !target.exists() {
            return true;
        }
        match (anchor, file) {
            (None, _) => false,
            (Some(anchor), "") => !anchors(text).contains(anchor),
            (Some(anchor), _) => {
                !std::fs::read_to_string(&target).is_ok_and(|t| anchors(&t).contains(anchor))
            }
        }
    };
    let found = links(text).into_iter().filter(dead);
    found.map(|link| format!("{page}: {link} leads nowhere")).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut dead = Vec::new();
    let mut seen = 0;
    for page in pages() {
        let text = read(&page);
        seen += links(&text).len();
        dead.extend(dead_links(&page, &text));
    }
    assert!(seen > 30, "only {seen} links were found");
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

#[test]
fn the_troubleshooting_page_names_every_error() {
    let source = read("src/error.rs");
    let body = source.split_once("pub enum ErrorKind {").expect("the enum").1;
    let names: Vec<&str> = body.lines().skip(1).map_while(|l| l.trim().strip_suffix(',')).collect();
    assert!(names.len() > 8, "{names:?}");
    let page = read("docs/troubleshooting.md");
    let missing: Vec<_> =
        names.iter().filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "not on the page: {missing:?}");
}

/// A size as the guide writes it: `4096`, `64 MiB`, `2 KiB`.
fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let shift = match unit {
        "" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    Some(number.parse::<u64>().ok()? << shift)
}

/// The rows of the guide's tables that begin with an option: its name and its
/// default.
fn options_of(guide: &str) -> BTreeMap<String, String> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        let name = cells.next()?.strip_suffix('`')?;
        Some((name.to_owned(), cells.next()?.trim_matches('`').to_owned()))
    };
    guide.lines().filter_map(row).collect()
}

#[test]
fn the_tuning_guide_has_every_option_with_its_default() {
    let defaults = format!(
        "{:?} {:?} {:?} {:?}",
        Options::default(),
        ColumnFamilyOptions::default(),
        WriteOptions::default(),
        ReadOptions::default()
    );
    let guide = options_of(&read("docs/tuning.md"));
    let source = read("src/config.rs") + &read("src/config/calls.rs");
    let setters = source.lines().filter_map(|line| line.trim().strip_prefix("pub fn "));
    let names: BTreeSet<&str> = setters
        .filter(|line| line.contains("mut self") && !line.starts_with('$'))
        .filter_map(|line| line.split(['(', '<']).next())
        .collect();
    assert!(names.len() > 25, "{names:?}");
    for name in names {
        let default = guide.get(name).unwrap_or_else(|| panic!("`{name}` is not in the guide"));
        // What has no field of its own name, or one that says nothing.
        if matches!(
            name,
            "compression_per_level"
                | "default_column_family"
                | "env"
                | "listener"
                | "snapshot"
                | "prefix"
                | "range"
                | "lower_bound"
                | "upper_bound"
                | "compression"
        ) {
            continue;
        }
        let field = match parse_size(default) {
            Some(bytes) => format!("{name}: {bytes}"),
            None => format!("{name}: {default}"),
        };
        let is_stated = |end: &str| defaults.contains(&format!("{field}{end}"));
        assert!(
            [",", " }", ".0,"].into_iter().any(is_stated),
            "the default of `{name}` is not {default}: {defaults}"
        );
    }
}

// ---- the checks themselves --------------------------------------------------

#[test]
fn fences_are_read() {
    let page = "```sh\na\n```\n\n```text output\nb\n```\nprose\n```rust\nc\n```\n";
    let found = blocks(page).unwrap();
    let found: Vec<_> = found.iter().map(|b| (&*b.language, b.follows, b.line)).collect();
    assert_eq!(found, [("sh", false, 1), ("text output", true, 5), ("rust", false, 9)]);
    assert!(blocks("```sh\na\n").is_err());
    assert!(blocks("```sh\n```sh\na\n```\n").is_err());
}

#[test]
fn a_page_that_is_wrong_is_found() {
    let check = |page: &str| check_page("page", page, false);
    assert_eq!(check("```sh\nX=1\n```\n```sh\necho $X\n```\n```text output\n1\n```\n"), Ok(2));
    assert_eq!(
        check("```sh\necho a; echo b; echo c\n```\n```text output\na\n...\nc\n```\n"),
        Ok(1)
    );
    assert_eq!(check("```sh not-run\nfalse\n```\n```sh long\nfalse\n```\n"), Ok(0));
    for wrong in [
        "```sh\nfalse\n```\n",
        "```sh\nfalse | true\n```\n",
        "```sh\naidb no-such-command\n```\n",
        "```sh\necho $UNSET_VARIABLE\n```\n",
        "```sh\necho 1\n```\n```text output\n2\n```\n",
        "```sh\necho 1; echo 2\n```\n```text output\n1\n```\n",
        "```sh\ntrue\n```\n```text output\n1\n```\n",
    ] {
        assert!(check(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_dead_link_is_found() {
    let page = "# One two\n[a](#one-two) [b](docs/format.md) [c](#three) [d](absent.md)";
    let dead = dead_links("README.md", page);
    assert_eq!(dead, ["README.md: #three leads nowhere", "README.md: absent.md leads nowhere"]);
}

#[test]
fn sizes_are_read() {
    assert_eq!(parse_size("4096"), Some(4096));
    assert_eq!(parse_size("64 MiB"), Some(64 << 20));
    assert_eq!(parse_size("some"), None);
}
