//! Numbers as text: three significant digits, the unit behind.

use super::statistics::Spread;

/// Stands where there is no figure.
pub(super) const NONE: &str = "–";

/// `value` with three significant digits, without an exponent.
pub(super) fn significant(value: f64) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    // The exponent after rounding: 999.6 has four digits, not three.
    let scientific = format!("{value:.2e}");
    let exponent = scientific.split_once('e').and_then(|(_, e)| e.parse::<i32>().ok());
    let decimals = usize::try_from(2 - exponent.unwrap_or(0)).unwrap_or(0);
    let rounded: f64 = scientific.parse().unwrap_or(value);
    format!("{rounded:.decimals$}")
}

/// Operations a second, in thousands.
pub(super) fn rate(per_second: f64) -> String {
    format!("{} k/s", significant(per_second / 1e3))
}

/// A time in the unit that fits it.
pub(super) fn seconds(seconds: f64) -> String {
    let (unit, scale) = match seconds {
        s if s >= 1.0 => ("s", 1.0),
        s if s >= 1e-3 => ("ms", 1e3),
        s if s >= 1e-6 => ("µs", 1e6),
        _ => ("ns", 1e9),
    };
    format!("{} {unit}", significant(seconds * scale))
}

/// Nanoseconds, in the unit that fits them.
pub(super) fn nanos(nanos: u64) -> String {
    seconds(nanos as f64 / 1e9)
}

/// Nanoseconds, always shown as microseconds.
pub(super) fn micros(nanos: f64) -> String {
    format!("{} µs", significant(nanos / 1e3))
}

/// A formatted figure without zeros behind the point: for round numbers.
pub(super) fn short(text: &str) -> String {
    let (number, unit) = text.split_at(text.find(' ').unwrap_or(text.len()));
    match number.parse::<f64>() {
        Ok(number) => format!("{number}{unit}"),
        Err(_) => text.to_owned(),
    }
}

/// Bytes, in binary units.
pub(super) fn bytes(bytes: f64) -> String {
    let (unit, scale) = match bytes {
        b if b >= 1_073_741_824.0 => ("GiB", 1_073_741_824.0),
        b if b >= 1_048_576.0 => ("MiB", 1_048_576.0),
        b if b >= 1024.0 => ("KiB", 1024.0),
        _ => return format!("{bytes:.0} B"),
    };
    format!("{} {unit}", significant(bytes / scale))
}

/// A part of one as per cent: whole ones, tenths below one.
pub(super) fn percent(part: f64) -> String {
    let percent = part * 100.0;
    match percent.abs() {
        0.0 => "0 %".to_owned(),
        p if p < 0.05 => "<0.1 %".to_owned(),
        p if p < 0.95 => format!("{percent:.1} %"),
        _ => format!("{percent:.0} %"),
    }
}

/// A ratio.
pub(super) fn ratio(ratio: f64) -> String {
    format!("{}×", significant(ratio))
}

/// A wanted ratio, as it is written in the table of targets: no zeros behind.
pub(super) fn target(ratio: f64) -> String {
    format!("{ratio}×")
}

/// A whole number: round millions and thousands by their letter.
pub(super) fn count(count: u64) -> String {
    match count {
        n if n >= 1_000_000 && n % 1_000_000 == 0 => format!("{} M", n / 1_000_000),
        n if n >= 1_000 && n % 1_000 == 0 => format!("{} k", n / 1_000),
        n => n.to_string(),
    }
}

/// A median by `format`, and how far the rounds lie from it.
pub(super) fn spread(spread: &Spread, format: impl Fn(f64) -> String) -> String {
    if spread.count == 1 {
        return format(spread.median);
    }
    format!("{} ±{}", format(spread.median), percent(spread.deviation()))
}

/// A ratio with its smallest and largest; a loss is said in words.
pub(super) fn ratio_spread(spread: &Spread) -> String {
    let mut text = format!("**{}**", ratio(spread.median));
    if spread.count > 1 {
        text += &format!(" ({}–{})", significant(spread.min), significant(spread.max));
    }
    if spread.median < 1.0 {
        text += " loses";
    }
    text
}
