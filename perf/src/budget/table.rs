//! The table in Markdown.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Figures;
use super::paths::PATHS;
use super::runs::median;

const HEAD: &str = "\
| path | budget | measured, ns (least to most) | CPU, all threads, ns | instructions | misses | system calls | allocations |
|---|---:|---:|---:|---:|---:|---:|---:|
";

/// The paths that were measured, in their order.
pub(super) fn render(all: &BTreeMap<String, Figures>) -> String {
    let mut out = HEAD.to_owned();
    for path in PATHS {
        let Some(figures) = all.get(path.name) else { continue };
        let _infallible = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            path.title,
            path.budget,
            time(&figures.nanoseconds),
            number(figures.cpu_nanoseconds),
            number(figures.instructions),
            number(figures.misses),
            number(figures.system_calls),
            number(figures.allocations),
        );
    }
    out
}

fn time(turns: &[f64]) -> String {
    if turns.is_empty() {
        return number(None);
    }
    let least = turns.iter().copied().fold(f64::INFINITY, f64::min);
    let most = turns.iter().copied().fold(0.0, f64::max);
    let [median, least, most] = [median(turns), least, most].map(|x| number(Some(x)));
    format!("**{median}** ({least}-{most})")
}

/// With three digits that count, and nothing where there is none.
fn number(value: Option<f64>) -> String {
    let Some(value) = value else { return "-".to_owned() };
    // Noise of what goes on beside: a thousandth of a call is none.
    match value.max(0.0) {
        v if v < 0.0005 => "0".to_owned(),
        v if v < 0.995 => format!("{v:.3}").trim_end_matches('0').trim_end_matches('.').to_owned(),
        v if v < 9.95 => format!("{v:.1}"),
        v if v < 99_950.0 => format!("{v:.0}"),
        v if v < 9_995_000.0 => format!("{:.0} k", v / 1e3),
        v => format!("{:.1} M", v / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measured_paths_have_a_row_in_the_order_of_the_list() {
        let figures = Figures {
            nanoseconds: vec![30.0, 10.0, 20.0],
            misses: Some(2.04),
            system_calls: Some(0.0001),
            ..Figures::default()
        };
        let all = [PATHS[2].name, PATHS[0].name].map(|name| (name.to_owned(), figures.clone()));
        let table = render(&BTreeMap::from(all));
        let rows: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(rows.len(), 2);
        assert!(rows[0].starts_with(&format!("| {} |", PATHS[0].title)), "{table}");
        assert!(rows[0].ends_with("| **20** (10-30) | - | - | 2.0 | 0 | - |"), "{table}");
    }

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (-0.1, "0"),
            (0.02, "0.02"),
            (1.0, "1.0"),
            (99.6, "100"),
            (12_345.0, "12345"),
            (123_456.0, "123 k"),
            (12_345_678.0, "12.3 M"),
        ] {
            assert_eq!(number(Some(value)), text);
        }
    }
}
