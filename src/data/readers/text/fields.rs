//! Lines to fields.

use std::fmt;
use std::str::FromStr;

/// What stands between the fields of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delimiter {
    /// A tab.
    Tab,
    /// `;`
    Semicolon,
    /// `|`
    Pipe,
    /// `,`
    Comma,
    /// One or more blanks or tabs.
    Blanks,
    /// Nothing: a line is one number.
    None,
}

impl Delimiter {
    /// In the order in which they are tried.
    pub(super) const ALL: [Delimiter; 6] = [
        Delimiter::Tab,
        Delimiter::Semicolon,
        Delimiter::Pipe,
        Delimiter::Comma,
        Delimiter::Blanks,
        Delimiter::None,
    ];

    fn character(self) -> Option<char> {
        match self {
            Delimiter::Tab => Some('\t'),
            Delimiter::Semicolon => Some(';'),
            Delimiter::Pipe => Some('|'),
            Delimiter::Comma => Some(','),
            Delimiter::Blanks | Delimiter::None => None,
        }
    }
}

impl fmt::Display for Delimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Delimiter::Tab => "tab",
            Delimiter::Semicolon => "semicolon",
            Delimiter::Pipe => "pipe",
            Delimiter::Comma => "comma",
            Delimiter::Blanks => "blanks",
            Delimiter::None => "none",
        })
    }
}

impl FromStr for Delimiter {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "\t" | "\\t" | "tab" => Ok(Delimiter::Tab),
            ";" | "semicolon" => Ok(Delimiter::Semicolon),
            "|" | "pipe" => Ok(Delimiter::Pipe),
            "," | "comma" => Ok(Delimiter::Comma),
            " " | "blanks" | "blank" | "space" => Ok(Delimiter::Blanks),
            "none" => Ok(Delimiter::None),
            _ => Err(format!("'{text}' is none of comma, semicolon, tab, pipe, blanks, none")),
        }
    }
}

/// Splits a line, each field trimmed and without its quotes (`"` or `'`). A delimiter inside double quotes is text.
pub(super) fn split<'a>(line: &'a str, delimiter: Delimiter, out: &mut Vec<&'a str>) {
    out.clear();
    match delimiter {
        Delimiter::None => out.push(plain(line)),
        Delimiter::Blanks if line.contains('"') => {
            // Quotes are rare here: names of columns.
            let mut rest = line.trim();
            while !rest.is_empty() {
                let (field, tail) = match rest.strip_prefix('"').and_then(|r| r.split_once('"')) {
                    Some((field, tail)) => (field, tail),
                    None => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
                };
                out.push(plain(field));
                rest = tail.trim_start();
            }
        }
        Delimiter::Blanks => out.extend(line.split_whitespace().map(plain)),
        _ => {
            // Those that are left have a character.
            let c = delimiter.character().unwrap_or(',');
            if line.contains('"') {
                let (mut start, mut quoted) = (0, false);
                for (at, found) in line.char_indices() {
                    if found == '"' {
                        quoted = !quoted;
                    } else if found == c && !quoted {
                        out.push(plain(&line[start..at]));
                        start = at + c.len_utf8();
                    }
                }
                out.push(plain(&line[start..]));
            } else {
                out.extend(line.split(c).map(plain));
            }
        }
    }
}

/// A field trimmed and without the quotes around it.
fn plain(field: &str) -> &str {
    let field = field.trim();
    for quote in ['"', '\''] {
        if let Some(inner) = field.strip_prefix(quote).and_then(|f| f.strip_suffix(quote)) {
            return inner.trim();
        }
    }
    field
}

/// Whether a line is a comment.
pub(super) fn is_comment(line: &str) -> bool {
    line.starts_with(['#', '%']) || line.starts_with("//")
}

/// The delimiter that a line `sep=;` (spreadsheets) names.
pub(super) fn sep_line(line: &str) -> Option<Delimiter> {
    let inner = line.trim_matches(['"', '\r', '\n']);
    let rest = inner.get(..4).filter(|k| k.eq_ignore_ascii_case("sep=")).map(|_| &inner[4..])?;
    let mut characters = rest.chars();
    let (c, end) = (characters.next()?, characters.next());
    end.is_none().then(|| c.to_string().parse().ok()).flatten()
}
