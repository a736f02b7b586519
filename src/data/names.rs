//! When two spellings are one name, and which texts say that a value is missing. The one definition for tables of
//! recordings, stores and predictions.

/// Whether `text` says that there is no value: what R, NumPy, pandas, SAS, Excel and people write for it.
pub fn is_missing(text: &str) -> bool {
    const WORDS: [&str; 17] = [
        "", "nan", "+nan", "-nan", "na", "n/a", "n.a.", "#n/a", "#na", "<na>", "null", "none", "nil", "nat",
        "missing", ".", "?",
    ];
    let text = text.trim_matches(|c: char| c.is_whitespace() || INVISIBLE.contains(&c));
    // Dashes of any number: -, --, an en dash.
    WORDS.iter().any(|w| text.eq_ignore_ascii_case(w))
        || text.chars().all(|c| "-\u{2013}\u{2014}".contains(c))
}

/// Characters that are not seen: byte-order mark, zero-width space and joiners, soft hyphen, word joiner.
const INVISIBLE: [char; 6] = ['\u{feff}', '\u{200b}', '\u{200c}', '\u{200d}', '\u{ad}', '\u{2060}'];

/// The text in the one form that Unicode holds for all its spellings (NFKC), in lower case, without what is not seen.
fn folded(text: &str) -> String {
    let visible = text.chars().filter(|c| !INVISIBLE.contains(c));
    #[cfg(feature = "formats")]
    let visible = unicode_normalization::UnicodeNormalization::nfkc(visible);
    visible.collect::<String>().to_lowercase().trim().to_string()
}

/// The whole number that a text is, however it is written: `7` for 7, 07, 7.0, +7, 7,0, 7e0.
fn whole(text: &str) -> Option<String> {
    let plain = text.replace(',', ".");
    let number: f64 = plain.parse().ok()?;
    let exact = number.is_finite() && number.fract() == 0.0 && number.abs() < 1e15;
    // Digits, so that "inf" and the like are words.
    (exact && plain.chars().any(|c| c.is_ascii_digit())).then(|| format!("{}", number as i64))
}

/// The words and numbers of a person's or data set's name, so that two spellings of one name are equal: without case,
/// punctuation, zeros in front, a decimal part of zeros, accents' encoding, or full-width digits. `P1`, `p-01` and `P 1.0`
/// are one, and so are `1`, `01` and `1.0`.
pub fn name_key(name: &str) -> Vec<String> {
    let name = folded(name);
    if let Some(number) = whole(&name) {
        return vec![number];
    }
    // A table program writes a column of whole numbers with a gap as 1.0, 2.0, also behind a prefix.
    let name = match name.rsplit_once('.') {
        Some((front, zeros))
            if !zeros.is_empty()
                && zeros.chars().all(|c| c == '0')
                && front.ends_with(|c: char| c.is_ascii_digit()) =>
        {
            front
        }
        _ => &name,
    };
    let mut out: Vec<String> = Vec::new();
    let mut last = None;
    for c in name.chars() {
        let kind = if c.is_ascii_digit() { Some(true) } else { c.is_alphanumeric().then_some(false) };
        match (kind, out.last_mut()) {
            (None, _) => {}
            (Some(_), Some(word)) if kind == last => word.push(c),
            _ => out.push(c.into()),
        }
        last = kind;
    }
    for word in &mut out {
        if word.starts_with('0') {
            let short = word.trim_start_matches('0');
            *word = if short.is_empty() { "0".into() } else { short.into() };
        }
    }
    // A name of punctuation only is itself.
    if out.is_empty() { vec![name.to_string()] } else { out }
}

/// A class as a label column writes it, so that `1`, `1.0` and `01`, or `True` and `true`, are one.
pub fn class_key(label: &str) -> String {
    let text = folded(label);
    whole(&text).unwrap_or(text)
}

/// Pairs of classes of which nobody doubts which is the positive one: it comes first.
const OBVIOUS: [(&str, &str); 11] = [
    ("1", "0"),
    ("1", "-1"),
    ("true", "false"),
    ("yes", "no"),
    ("t", "f"),
    ("y", "n"),
    ("high", "low"),
    ("on", "off"),
    ("positive", "negative"),
    ("pos", "neg"),
    ("present", "absent"),
];

/// Whether a class, by its [`class_key`], is the positive one of an obvious pair whose other class is `other`, or None if
/// the pair is not obvious. With one class only, `other` is None.
pub fn obvious_class(class: &str, other: Option<&str>) -> Option<bool> {
    match other {
        Some(other) => OBVIOUS.iter().find_map(|(p, n)| match (class, other) {
            (a, b) if (a, b) == (*p, *n) => Some(true),
            (a, b) if (a, b) == (*n, *p) => Some(false),
            _ => None,
        }),
        None => {
            OBVIOUS.iter().find_map(|(p, n)| (class == *p).then_some(true).or((class == *n).then_some(false)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_values_are_known_in_every_spelling() {
        for text in [
            "",
            "  ",
            "NaN",
            "nan",
            "-NaN",
            "NA",
            "N/A",
            "#N/A",
            "<NA>",
            "null",
            "NULL",
            "None",
            "NaT",
            ".",
            "?",
            "-",
            "--",
            "\u{2014}",
            "\u{feff}NaN",
        ] {
            assert!(is_missing(text), "{text:?}");
        }
        for text in ["0", "no", "-1", "nan1", "1.", "calm", "n"] {
            assert!(!is_missing(text), "{text:?}");
        }
    }

    #[test]
    #[cfg(feature = "formats")]
    fn spellings_of_one_name_are_equal_and_other_names_are_not() {
        let same = [
            &["1", "01", "1.0", "001.00", "+1", " 1 ", "1,0", "1e0", "\u{ff11}", "\u{feff}1"][..],
            &["P1", "p1", "p-01", "P 1", "P_001", "p1.0", "\u{ff30}\u{ff11}", "p\u{200b}1"],
            &["Jos\u{e9}", "jose\u{301}", "JOS\u{c9}"],
            &["ﬁnn", "Finn"],
        ];
        for (i, group) in same.iter().enumerate() {
            for name in *group {
                assert_eq!(name_key(name), name_key(group[0]), "{name:?}");
                for other in same.iter().enumerate().filter(|(j, _)| *j != i).flat_map(|(_, g)| *g) {
                    assert_ne!(name_key(name), name_key(other), "{name:?} {other:?}");
                }
            }
        }
        for (a, b) in [
            ("1", "10"),
            ("p1", "p11"),
            ("1.5", "1"),
            ("a1b", "ab1"),
            ("0", ""),
            ("s1", "p1"),
            ("10", "1.00"),
        ] {
            assert_ne!(name_key(a), name_key(b), "{a} {b}");
        }
        assert_eq!(["1", "1.0", "01", "TRUE", " True"].map(class_key), ["1", "1", "1", "true", "true"]);
    }

    #[test]
    fn only_pairs_without_doubt_are_obvious() {
        assert_eq!(obvious_class("1", Some("0")), Some(true));
        assert_eq!(obvious_class("0", Some("1")), Some(false));
        assert_eq!(obvious_class("-1", Some("1")), Some(false));
        assert_eq!(obvious_class("1", Some("2")), None);
        assert_eq!(obvious_class("2", Some("1")), None);
        assert_eq!(obvious_class("high", Some("0")), None);
        assert_eq!(obvious_class("yes", None), Some(true));
        assert_eq!(obvious_class("calm", None), None);
    }
}
