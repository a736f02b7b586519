//! Numbers as devices and spreadsheets write them, with a point or a comma before the decimals.
//!
//! ```text
//! number   = [sign] digits [mark digits] [exponent]  |  [sign] mark digits [exponent]
//! digits   = digit+  |  group (thousands digit{3})+          (the first group does not begin with 0)
//! thousands = the mark that is not the decimal mark, an apostrophe or a (no-break) space
//! missing  = as `data::names::is_missing`: "" | nan | na | n/a | null | none | - | -- | ...      (in any case)
//! ```

use std::fmt;
use std::str::FromStr;

/// The decimal mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decimal {
    /// `1.5`
    Point,
    /// `1,5`
    Comma,
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Decimal::Point { "point" } else { "comma" })
    }
}

impl FromStr for Decimal {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "." | "point" => Ok(Decimal::Point),
            "," | "comma" => Ok(Decimal::Comma),
            _ => Err(format!("'{text}' is neither point nor comma")),
        }
    }
}

/// Whether a field stands for "no value".
pub(super) fn is_missing(field: &str) -> bool {
    // A number is the usual case and none of the words begins like one, but for the dashes.
    let may_be = field.len() <= 10 && !field.starts_with(|c: char| c.is_ascii_digit());
    may_be && crate::data::names::is_missing(field)
}

/// The number in a trimmed field; None for anything else, also for a missing value.
pub(super) fn number(field: &str, mark: Decimal) -> Option<f64> {
    if mark == Decimal::Point
        && let Ok(value) = field.parse::<f64>()
    {
        return value.is_finite().then_some(value);
    }
    spelled(field, mark)
}

/// [`number`] of what Rust does not read itself: another mark, thousands, the minus sign of typography.
fn spelled(field: &str, mark: Decimal) -> Option<f64> {
    // Longer than any number; and it must begin as one.
    let first = field.chars().next()?;
    if field.len() > 64 || !(first.is_ascii_digit() || "+-.,\u{2212}".contains(first)) {
        return None;
    }
    let (sign, rest) = match first {
        '-' | '\u{2212}' => ("-", &field[first.len_utf8()..]),
        '+' => ("", &field[1..]),
        _ => ("", field),
    };
    let split = rest.find(['e', 'E']).unwrap_or(rest.len());
    let (mantissa, exponent) = rest.split_at(split);
    let (decimal, group) = if mark == Decimal::Point { ('.', ',') } else { (',', '.') };
    let (whole, decimals) = match mantissa.split_once(decimal) {
        Some((whole, decimals)) => (whole, Some(decimals)),
        None => (mantissa, None),
    };
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if decimals.is_some_and(|d| !d.is_empty() && !digits(d)) {
        return None;
    }
    let mut plain = String::from(sign);
    if digits(whole) {
        plain.push_str(whole);
    } else if whole.is_empty() {
        decimals.filter(|d| !d.is_empty())?;
        plain.push('0');
    } else {
        let between = [group, '\'', '\u{2019}', '\u{a0}', '\u{202f}', ' '];
        let separator = whole.chars().find(|c| between.contains(c))?;
        let mut groups = whole.split(separator);
        let first = groups.next().filter(|g| digits(g) && g.len() <= 3 && !g.starts_with('0'))?;
        plain.push_str(first);
        for part in groups {
            if part.len() != 3 || !digits(part) {
                return None;
            }
            plain.push_str(part);
        }
    }
    if let Some(decimals) = decimals.filter(|d| !d.is_empty()) {
        plain.push('.');
        plain.push_str(decimals);
    }
    plain.push_str(exponent);
    plain.parse::<f64>().ok().filter(|v| v.is_finite())
}

/// What the numbers of a column say about their decimal mark.
#[derive(Clone, Debug, Default)]
pub(super) struct MarkEvidence {
    /// Fields that are a number with a decimal point only.
    pub(super) point: usize,
    /// Fields that are a number with a decimal comma only.
    pub(super) comma: usize,
    /// A field with a comma that is a number either way: `1,234`.
    pub(super) either: Option<String>,
    /// How many such fields there are, without and with a minus sign.
    pub(super) either_signs: [usize; 2],
}

impl MarkEvidence {
    /// Takes a field into account. Returns whether it is a number with either mark.
    pub(super) fn add(&mut self, field: &str) -> bool {
        let (point, comma) = (number(field, Decimal::Point), number(field, Decimal::Comma));
        match (point, comma) {
            (Some(_), None) => self.point += 1,
            (None, Some(_)) => self.comma += 1,
            (Some(a), Some(b)) if a != b && field.contains(',') => {
                self.either_signs[usize::from(a < 0.0)] += 1;
                self.either.get_or_insert_with(|| field.to_string());
            }
            _ => {}
        }
        point.is_some() || comma.is_some()
    }
}
