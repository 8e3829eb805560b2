//! What stands before the sections: how to read them, the machine, the
//! parameters, the engines.

use std::collections::BTreeMap;

use crate::engine::Description;
use crate::result::{Parameters, ResultFile};

use super::format;
use super::page::Page;
use super::rows::engine_order;
use super::table::{Table, code, escape};

const HOW_TO_READ: &str = "\
Rates are medians over the rounds, in thousands of operations a second; ± is how far a round lies \
from the median at most. A ratio is taken within each round, between engines that ran next to each \
other, and given as the median of the rounds with the smallest and the largest: above 1 AiDb is \
better. For times and latencies it is the peer's over AiDb's, so that above 1 is good there too. \
*Best RocksDB* is its configuration with the best median in that row. An en dash: not measured.";

/// A name and its value in one file.
type Property = (&'static str, String);

/// Writes everything above the sections.
pub(super) fn write(page: &mut Page, name: &str, files: &[ResultFile]) {
    page.text(&format!("# AiDb beside its peers: {name}"));
    page.text(HOW_TO_READ);
    page.text("## Machine");
    properties(page, files.iter().map(machine).collect());
    page.text("## Parameters");
    properties(page, files.iter().map(parameters).collect());
    page.text("## Engines");
    let all: Vec<Vec<(&str, &Description)>> = files.iter().map(descriptions).collect();
    // Codecs differ between sections by intent, so only theirs say so.
    page.notes(&durability_differs(&all.concat()).into_iter().collect::<Vec<String>>());
    page.text(&engines(&all).to_string());
}

fn machine(file: &ResultFile) -> Vec<Property> {
    let machine = match file {
        ResultFile::Comparison(result) => &result.machine,
        ResultFile::Latency(result) => &result.machine,
        ResultFile::LongRun(result) => &result.machine,
    };
    vec![
        ("CPU", escape(&machine.cpu)),
        ("processors", machine.cpus.to_string()),
        ("memory", format::bytes(machine.memory_mib as f64 * 1_048_576.0)),
        ("dependent miss to memory", format::seconds(machine.miss_ns / 1e9)),
        ("4 KiB overwrite and fdatasync, p50", format::seconds(machine.fsync_p50_us / 1e6)),
        ("kernel", escape(&machine.kernel)),
        ("file system", escape(&machine.file_system)),
        ("stolen by the hypervisor", format!("{:.1} %", machine.steal_percent)),
        ("build", escape(&machine.build)),
        ("commit", escape(&machine.commit)),
        ("date", escape(&machine.date)),
    ]
}

fn parameters(file: &ResultFile) -> Vec<Property> {
    let (common, own) = match file {
        ResultFile::Comparison(result) => (
            &result.parameters,
            ("measured", format!("throughput, rounds: {}", result.rounds.len())),
        ),
        ResultFile::Latency(result) => {
            let seconds = format::seconds(result.seconds_per_rate);
            let (workload, threads) = (escape(&result.workload), result.threads);
            let measured = format!("latency of {workload}, threads: {threads}, {seconds} a rate");
            (&result.parameters, ("measured", measured))
        }
        ResultFile::LongRun(result) => {
            (&result.parameters, ("measured", "a long run of writes".to_owned()))
        }
    };
    let mut properties = vec![own];
    properties.extend(data(common));
    properties
}

fn data(parameters: &Parameters) -> Vec<Property> {
    let seconds = match parameters.seconds {
        0.0 => "no bound".to_owned(),
        seconds => format::seconds(seconds),
    };
    let cache = if parameters.cold { "dropped before each read workload" } else { "warm" };
    vec![
        ("keys", format!("{}, {}", format::count(parameters.num), escape(&parameters.keys))),
        ("key size", format!("{} B", parameters.key_size)),
        ("value size", format!("{} B", parameters.value_size)),
        ("codec asked for", escape(&parameters.codec)),
        ("operations of a read workload at most", format::count(parameters.reads)),
        ("seconds of a read workload at most", seconds),
        ("page cache", cache.to_owned()),
    ]
}

/// One table of what all files share, and one of what differs, a row a section.
fn properties(page: &mut Page, files: Vec<Vec<Property>>) {
    let Some(first) = files.first() else { return };
    let shared = |index: usize| files.iter().all(|file| file[index].1 == first[index].1);
    let (same, other): (Vec<usize>, Vec<usize>) = (0..first.len()).partition(|i| shared(*i));
    let mut table = Table::new(2, ["", "in all sections"]);
    if files.len() == 1 {
        table = Table::new(2, ["", ""]);
    }
    same.iter().for_each(|i| table.push([first[*i].0.to_owned(), first[*i].1.clone()]));
    if !table.is_empty() {
        page.text(&table.to_string());
    }
    if other.is_empty() {
        return;
    }
    let mut header = vec!["section".to_owned()];
    header.extend(other.iter().map(|i| first[*i].0.to_owned()));
    let mut table = Table::new(header.len(), header);
    for (section, file) in files.iter().enumerate() {
        let mut row = vec![(section + 1).to_string()];
        row.extend(other.iter().map(|i| file[*i].1.clone()));
        table.push(row);
    }
    page.text(&table.to_string());
}

fn descriptions(file: &ResultFile) -> Vec<(&str, &Description)> {
    match file {
        ResultFile::Comparison(result) => {
            let runs = result.rounds.iter().flatten();
            runs.map(|run| (run.engine.as_str(), &run.description)).collect()
        }
        ResultFile::Latency(result) => {
            result.sweeps.iter().map(|sweep| (sweep.engine.as_str(), &sweep.description)).collect()
        }
        ResultFile::LongRun(result) => {
            result.runs.iter().map(|run| (run.engine.as_str(), &run.description)).collect()
        }
    }
}

/// Each engine once for each thing that it says of itself.
fn engines(files: &[Vec<(&str, &Description)>]) -> Table {
    let mut known: Vec<(&str, &Description, Vec<usize>)> = Vec::new();
    for (section, file) in files.iter().enumerate() {
        for (engine, description) in file {
            let same = known.iter().position(|(e, d, _)| e == engine && d == description);
            let at = same.unwrap_or_else(|| {
                known.push((engine, description, Vec::new()));
                known.len() - 1
            });
            let sections = &mut known[at].2;
            if sections.last() != Some(&(section + 1)) {
                sections.push(section + 1);
            }
        }
    }
    known.sort_by_key(|(engine, ..)| engine_order(engine));
    let all = known.iter().all(|(_, _, sections)| sections.len() == files.len());
    let mut header = vec!["engine", "version", "without sync a write", "codec", "configuration"];
    if !all {
        header.push("sections");
    }
    let mut table = Table::new(header.len(), header);
    for (engine, description, sections) in known {
        let mut row = vec![
            code(engine),
            escape(&description.version),
            description.durability.to_string(),
            description.codec.to_string(),
            escape(&description.configuration),
        ];
        if !all {
            let sections: Vec<String> = sections.iter().map(usize::to_string).collect();
            row.push(sections.join(", "));
        }
        table.push(row);
    }
    table
}

/// Says in what the engines of a section are not alike, where that bears on its figures.
pub(super) fn differences(engines: &[(&str, &Description)]) -> Vec<String> {
    let codec = kinds(engines, |description| description.codec.to_string());
    let codec =
        (codec.len() > 1).then(|| format!("**The engines differ in codec**: {}.", listed(&codec)));
    durability_differs(engines).into_iter().chain(codec).collect()
}

fn durability_differs(engines: &[(&str, &Description)]) -> Option<String> {
    let kinds = kinds(engines, |description| description.durability.to_string());
    (kinds.len() > 1).then(|| {
        format!(
            "**The engines differ in durability.** Without sync a write: {}. Rows that write \
             without sync do not compare like with like.",
            listed(&kinds)
        )
    })
}

/// The engines by what `kind` says of them, each once.
fn kinds<'a>(
    engines: &[(&'a str, &Description)],
    kind: impl Fn(&Description) -> String,
) -> BTreeMap<String, Vec<&'a str>> {
    let mut kinds: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (engine, description) in engines {
        let of_kind = kinds.entry(kind(description)).or_default();
        if !of_kind.contains(engine) {
            of_kind.push(engine);
        }
    }
    kinds.values_mut().for_each(|engines| engines.sort_by_key(|engine| engine_order(engine)));
    kinds
}

fn listed(kinds: &BTreeMap<String, Vec<&str>>) -> String {
    let one = |(kind, engines): (&String, &Vec<&str>)| {
        let engines: Vec<String> = engines.iter().map(|engine| code(engine)).collect();
        format!("{kind} ({})", engines.join(", "))
    };
    kinds.iter().map(one).collect::<Vec<String>>().join("; ")
}
