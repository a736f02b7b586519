//! Dates and times of day as stamps, in seconds.
//!
//! ```text
//! stamp = date [("T" | blanks) clock [zone]] | clock [zone]
//! date  = YYYY-MM-DD | YYYY/MM/DD | DD.MM.YYYY | DD-MM-YYYY | MM/DD/YYYY (DD/MM/YYYY when the first is above 12)
//! clock = h:mm:ss[(. | , | :)digits] [AM | PM] | m:ss(. | ,)digits
//! zone  = Z | UTC | (+ | -)hh[:]mm
//! ```
//!
//! Only differences of stamps are used, so a zone is read over. Square brackets around a stamp (rdsamp) are left out.

/// A stamp that was read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stamp {
    /// Days from a fixed day, if there is a date.
    pub(super) day: Option<i64>,
    /// Seconds of the day, if there is a time of day.
    pub(super) clock: Option<f64>,
}

/// Reads a trimmed field.
pub(super) fn stamp(field: &str) -> Option<Stamp> {
    let field = field.trim_start_matches('[').trim_end_matches(']').trim();
    // The shortest is m:ss.d, the longest has nanoseconds and a zone.
    if !(6..=48).contains(&field.len()) || !field.is_ascii() || !field.as_bytes()[0].is_ascii_digit() {
        return None;
    }
    let mut words = field.split([' ', 'T']).filter(|w| !w.is_empty());
    let first = words.next()?;
    if first.contains(':') {
        let clock = Some(with_zone(first, words)?);
        return Some(Stamp { day: None, clock });
    }
    let day = Some(date(first)?);
    match words.next() {
        Some(word) => Some(Stamp { day, clock: Some(with_zone(word, words)?) }),
        None => Some(Stamp { day, clock: None }),
    }
}

/// A clock, what follows it being AM, PM or a zone.
fn with_zone<'a>(word: &str, rest: impl Iterator<Item = &'a str>) -> Option<f64> {
    let word = word.strip_suffix(['Z', 'z']).unwrap_or(word);
    let own = word.find(['+', '-']).map_or(word, |at| &word[..at]);
    if own.len() < word.len() && !is_offset(&word[own.len()..]) {
        return None;
    }
    let mut seconds = clock(own)?;
    for part in rest {
        match part.to_ascii_uppercase().as_str() {
            "AM" if seconds >= 43_200.0 => seconds -= 43_200.0,
            "PM" if seconds < 43_200.0 => seconds += 43_200.0,
            "AM" | "PM" | "Z" | "UTC" | "GMT" => {}
            other if is_offset(other) => {}
            _ => return None,
        }
    }
    Some(seconds)
}

fn is_offset(text: &str) -> bool {
    let digits = text[1..].bytes().filter(u8::is_ascii_digit).count();
    text.starts_with(['+', '-'])
        && (2..=4).contains(&digits)
        && text[1..].bytes().all(|b| b.is_ascii_digit() || b == b':')
}

/// Seconds of `h:mm:ss.fff` or `m:ss.fff`.
fn clock(text: &str) -> Option<f64> {
    let whole = |t: &str, most: u32| {
        let fits = (1..=2).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_digit());
        t.parse::<u32>().ok().filter(|v| fits && *v < most)
    };
    let seconds = |t: &str| -> Option<f64> {
        let (whole_part, fraction) = t.split_once(['.', ',']).unwrap_or((t, ""));
        let value = f64::from(whole(whole_part, 61)?);
        match fraction {
            "" => Some(value),
            f if f.bytes().all(|b| b.is_ascii_digit()) => Some(value + format!("0.{f}").parse::<f64>().ok()?),
            _ => None,
        }
    };
    let parts: Vec<&str> = text.split(':').collect();
    match parts[..] {
        [m, s] if s.contains(['.', ',']) => Some(60.0 * f64::from(whole(m, 60)?) + seconds(s)?),
        [h, m, s] => Some(3600.0 * f64::from(whole(h, 25)?) + 60.0 * f64::from(whole(m, 60)?) + seconds(s)?),
        [h, m, s, f] if f.bytes().all(|b| b.is_ascii_digit()) => {
            let fraction = format!("0.{f}").parse::<f64>().ok()?;
            let minutes = 60.0 * f64::from(whole(h, 25)?) + f64::from(whole(m, 60)?);
            Some(60.0 * minutes + f64::from(whole(s, 61)?) + fraction)
        }
        _ => None,
    }
}

/// Days of a date from 1970-01-01.
fn date(text: &str) -> Option<i64> {
    let separator = text.chars().find(|c| ['-', '/', '.'].contains(c))?;
    let mut parts = text.split(separator).map(|p| {
        let fits = (1..=4).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit());
        p.parse::<i64>().ok().filter(|_| fits).map(|v| (v, p.len()))
    });
    let (a, b, c) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() {
        return None;
    }
    let (year, month, day) = if a.1 == 4 {
        (a.0, b.0, c.0)
    } else if c.1 == 4 {
        let month_first = separator == '/' && a.0 <= 12;
        if month_first { (c.0, a.0, b.0) } else { (c.0, b.0, a.0) }
    } else {
        return None;
    };
    if !((1..=12).contains(&month) && (1..=31).contains(&day) && (1900..=2200).contains(&year)) {
        return None;
    }
    // Days from civil date (Hinnant): years begin in March, so that the leap day is the last.
    let y = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (y.div_euclid(400), y.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_the_grammar_and_nothing_else() {
        let seconds =
            |t: &str| stamp(t).map(|s| s.day.unwrap_or(0) as f64 * 86_400.0 + s.clock.unwrap_or(0.0));
        for (text, expected) in [
            ("1970-01-02T00:00:01.5", 86_401.5),
            ("2021-05-05 09:30:00.008", 1_620_207_000.008),
            ("2021-05-05T09:30:00.008Z", 1_620_207_000.008),
            ("2021-05-05 09:30:00.008 +0200", 1_620_207_000.008),
            ("2021-05-05T09:30:00.008+02:00", 1_620_207_000.008),
            ("2021/05/05 09:30:00", 1_620_207_000.0),
            ("05.05.2021 09:30:00,008", 1_620_207_000.008),
            ("05/05/2021 9:30:00.008 AM", 1_620_207_000.008),
            ("25/05/2021 09:30:00", 1_621_935_000.0),
            ("1:00:00.25", 3600.25),
            ("01:00:00:250", 3600.25),
            ("0:01.250", 1.25),
            ("[09:30:00.008 05/05/2021]", f64::NAN),
            ("12:00:01 AM", 1.0),
        ] {
            match expected.is_nan() {
                true => assert_eq!(seconds(text), None, "{text}"),
                false => assert_eq!(seconds(text), Some(expected), "{text}"),
            }
        }
        for text in
            ["12:30", "1.5", "2021-13-05", "a:b:c.d", "2021-05-05 x", "1:2:3:4:5", "25:61:00.1", "9:30:00+9"]
        {
            assert_eq!(stamp(text), None, "{text}");
        }
    }
}
