//! The sniffer: from the lines of a table to its delimiter, decimal marks, header and columns.

use super::TextOptions;
use super::facts::Facts;
use super::fields::{Delimiter, is_comment, sep_line, split};
use super::names::{Header, is_known_unit, is_unit, name_and_unit};
use super::number::{Decimal, MarkEvidence, is_missing, number};
use super::stamps::stamp;
use crate::error::{Error, Result};

/// Lines at the head that are looked at.
const HEAD_LINES: usize = 600;
/// Lines further down that are looked at.
const LATER_LINES: usize = 150;
/// More columns than any recording has.
pub(super) const MAX_COLUMNS: usize = 4096;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Numbers, with this decimal mark.
    Number(Decimal),
    /// Dates or times of day.
    Stamp,
    /// Nothing in any line that was looked at.
    Empty,
    /// Text.
    Text,
}

/// A column of the table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Column {
    /// Its name, or `column 3`.
    pub(super) label: String,
    /// Whether the table names it.
    pub(super) named: bool,
    /// Unit, from the name or the row of units.
    pub(super) unit: Option<String>,
    pub(super) kind: Kind,
}

/// How a table is to be read.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) delimiter: Delimiter,
    pub(super) columns: Vec<Column>,
    /// Whether rows may end with a delimiter behind which nothing follows.
    pub(super) trailing: bool,
    /// Byte where the first row begins, and its line.
    pub(super) first: (usize, usize),
    /// Line with the names and line with the units, if there are such.
    pub(super) names_line: Option<usize>,
    pub(super) units_line: Option<usize>,
    pub(super) facts: Facts,
}

/// A line of the file.
#[derive(Clone, Copy, Debug)]
struct Line<'a> {
    /// From 1; 0 where the lines before were not counted.
    number: usize,
    /// Byte at which it begins.
    at: usize,
    text: &'a str,
}

/// One way to read the lines.
struct Reading<'a> {
    delimiter: Delimiter,
    columns: usize,
    trailing: bool,
    kinds: Vec<Tally>,
    /// Lines with that many columns.
    rows: Vec<Line<'a>>,
}

/// What the fields of a column are.
#[derive(Clone, Debug, Default)]
struct Tally {
    numbers: usize,
    stamps: usize,
    missing: usize,
    /// Missing values that are written out: `NaN`.
    nans: usize,
    texts: usize,
    marks: MarkEvidence,
    /// A field with a blank or a comma between digits: two fields taken for one.
    junk: bool,
    /// Fields of digits only, and whether one of them begins with 0 as no whole number does: `0013`.
    digits: usize,
    leading_zero: bool,
}

impl Tally {
    fn add(&mut self, field: &str) {
        if is_missing(field) {
            self.missing += 1;
            self.nans += usize::from(field.eq_ignore_ascii_case("nan"));
        } else if self.marks.add(field) {
            self.numbers += 1;
            if field.bytes().all(|b| b.is_ascii_digit()) {
                self.digits += 1;
                self.leading_zero |= field.len() > 1 && field.starts_with('0');
            }
        } else if stamp(field).is_some() {
            self.stamps += 1;
        } else {
            self.texts += 1;
            let inner = |c: char| c.is_ascii_digit() || " ,.+-".contains(c);
            self.junk |= field.contains([' ', ',']) && field.chars().all(inner);
        }
    }

    fn is_number(&self) -> bool {
        self.numbers > 0 && self.numbers >= self.stamps + self.texts
    }

    fn is_stamp(&self) -> bool {
        !self.is_number() && self.stamps > 0 && self.stamps >= self.texts
    }
}

/// Finds out how `text` is to be read.
///
/// # Errors
/// No numbers; two readings that are equally likely, which are both shown; contradictory marks.
pub(super) fn sniff(text: &str, options: &TextOptions) -> Result<Layout> {
    let (skip, skipped_to) = skipped(text, options.skip_rows)?;
    let head = lines(&text[skip..], skip, skipped_to, HEAD_LINES);
    let head_end = head.last().map_or(skip, |l| l.at + l.text.len());
    let later = later_lines(text, head_end);
    // A spreadsheet's sep= line stands first.
    let first = head.iter().find(|l| !l.text.trim().is_empty());
    let sep = first.and_then(|l| Some((sep_line(l.text)?, l.number)));
    let is_content = |l: &&Line<'_>| {
        !l.text.trim().is_empty() && !is_comment(l.text) && Some(l.number) != sep.map(|s| s.1)
    };
    let content: Vec<Line<'_>> = head.iter().filter(is_content).copied().collect();
    let given = options.delimiter.or(sep.map(|s| s.0));
    let later: Vec<Line<'_>> = later.into_iter().filter(|l| is_content(&l)).collect();
    let reading = choose(&content, &later, given, options.decimal)?;
    reading.finish(&head, &content, options.decimal)
}

/// Byte and number of lines after the first `skip` lines.
fn skipped(text: &str, skip: usize) -> Result<(usize, usize)> {
    let mut at = 0;
    for n in 0..skip {
        let end = text[at..].find('\n').ok_or_else(|| {
            Error::usage(format!("{skip} rows are to be skipped, the file has {}", n + 1))
                .remedy("give a smaller --skip-rows")
        })?;
        at += end + 1;
    }
    Ok((at, skip))
}

/// The first `most` lines of `text`, which begins at byte `at` after `before` lines.
fn lines(text: &str, at: usize, before: usize, most: usize) -> Vec<Line<'_>> {
    let mut out = Vec::new();
    let mut begin = 0;
    for (i, line) in text.split_inclusive('\n').take(most).enumerate() {
        let own = line.trim_end_matches(['\n', '\r']);
        out.push(Line { number: before + i + 1, at: at + begin, text: own });
        begin += line.len();
    }
    out
}

/// Lines spread over what follows byte `from`, the last one included.
fn later_lines(text: &str, from: usize) -> Vec<Line<'_>> {
    let mut out = Vec::new();
    let left = text.len().saturating_sub(from);
    let mut at = from;
    for k in 0..LATER_LINES {
        let mut wanted = from + left / LATER_LINES * k;
        if wanted < at {
            continue;
        }
        while !text.is_char_boundary(wanted) {
            wanted += 1;
        }
        let Some(begin) = text[wanted..].find('\n').map(|n| wanted + n + 1).filter(|b| *b < text.len())
        else {
            break;
        };
        let end = text[begin..].find('\n').map_or(text.len(), |n| begin + n);
        out.push(Line { number: 0, at: begin, text: text[begin..end].trim_end_matches('\r') });
        at = end;
    }
    out
}

/// The reading that fits.
fn choose<'a>(
    content: &[Line<'a>],
    later: &[Line<'a>],
    given: Option<Delimiter>,
    decimal: Option<Decimal>,
) -> Result<Reading<'a>> {
    if content.is_empty() {
        return Err(Error::data("the table holds no rows of numbers"));
    }
    let mut fits: Vec<Reading<'a>> = Vec::new();
    for delimiter in Delimiter::ALL {
        // With a decimal comma a comma parts nothing, unless the numbers stand in quotes.
        let unquoted = || !content.iter().any(|l| l.text.contains("\""));
        let clash = delimiter == Delimiter::Comma && decimal == Some(Decimal::Comma) && unquoted();
        if given.is_some_and(|g| g != delimiter) || (given.is_none() && clash) {
            continue;
        }
        fits.extend(Reading::of(delimiter, content, later));
    }
    let at = |fits: &[Reading<'_>], d: Delimiter| fits.iter().position(|r| r.delimiter == d);
    if let (Some(comma), Some(none)) = (at(&fits, Delimiter::Comma), at(&fits, Delimiter::None)) {
        if decimal == Some(Decimal::Point) && given.is_none() {
            return Ok(fits.swap_remove(comma));
        }
        return one_or_two(&fits[comma], &fits[none], content)
            .map(|one| fits.swap_remove(if one { none } else { comma }));
    }
    if fits.is_empty() {
        return Err(no_table(content, given));
    }
    Ok(fits.swap_remove(0))
}

fn no_table(content: &[Line<'_>], given: Option<Delimiter>) -> Error {
    let with = given.map(|g| format!(" with the delimiter {g}")).unwrap_or_default();
    // The last lines are the least likely to be a header.
    let line = content[content.len() / 2];
    let shown: String = line.text.chars().take(60).collect();
    Error::data(format!("the table holds no rows of numbers that can be told apart{with}"))
        .at(format!("line {}: '{}'", line.number, shown.escape_debug()))
        .remedy("say how it is written: --delimiter (comma, semicolon, tab, pipe, blanks), --decimal (point, comma), --skip-rows")
}

/// Whether lines `1,25` are one column with decimal commas (true) or two columns (false).
fn one_or_two(comma: &Reading<'_>, none: &Reading<'_>, content: &[Line<'_>]) -> Result<bool> {
    let pairs: Vec<(&str, &str)> =
        none.rows.iter().filter_map(|l| l.text.trim().trim_matches('"').split_once(',')).collect();
    if comma.columns != 2 || pairs.is_empty() {
        // One column of numbers such as 1,234,567.
        return Ok(comma.columns != 2 || !comma.kinds.iter().all(Tally::is_number));
    }
    let quoted = none.rows.iter().filter(|l| l.text.trim_start().starts_with('"')).count();
    if quoted * 2 > none.rows.len() {
        return Ok(true);
    }
    // What stands right above the first row names one column or two.
    let first = none.rows.iter().chain(&comma.rows).map(|l| l.number).filter(|n| *n > 0).min().unwrap_or(1);
    let above = content.iter().rfind(|l| l.number + 1 == first && l.number > 0);
    let named = above.map(|l| {
        let mut names = Vec::new();
        split(l.text, Delimiter::Comma, &mut names);
        names.len()
    });
    let digits = |t: &str| t.bytes().filter(u8::is_ascii_digit).count();
    let is_fraction = |b: &str| b.len() > 1 && b.starts_with('0') || b.contains(['e', 'E']);
    let fractions = pairs.iter().filter(|(a, b)| is_fraction(b) || *a == "-0" || *a == "+0").count();
    let whole: Vec<f64> = pairs.iter().filter_map(|(a, _)| a.trim().parse().ok()).collect();
    let step = |w: &[f64]| w[1] - w[0];
    let counts = whole.len() > 2 && whole.windows(2).all(|w| step(w) == step(&whole) && step(w) != 0.0);
    let long = pairs.iter().any(|(_, b)| digits(b) > 9);
    match (named, fractions > 0 || long, counts) {
        (Some(1), ..) | (None, true, false) => Ok(true),
        (None, false, true) | (Some(2), false, _) => Ok(false),
        _ => {
            let (a, b) = pairs[pairs.len() / 2];
            let line = none.rows.iter().find(|l| l.number > 0).map_or(1, |l| l.number);
            Err(Error::data(format!(
                "decimal commas? '{a},{b}' can be one column with decimal commas ({a}.{b}) or two columns ({a} and {b})"
            ))
            .at(format!("line {line}"))
            .remedy("say which: --decimal comma for one column, --delimiter comma for two"))
        }
    }
}

impl<'a> Reading<'a> {
    /// The lines read with `delimiter`; None if they are no table then.
    fn of(delimiter: Delimiter, content: &[Line<'a>], later: &[Line<'a>]) -> Option<Self> {
        // The second half of the head is beyond any header block.
        let body: Vec<Line<'a>> = content[content.len() / 2..].iter().chain(later).copied().collect();
        let mut fields = Vec::new();
        let mut counts: Vec<(usize, usize)> = Vec::new();
        for line in &body {
            split(line.text, delimiter, &mut fields);
            match counts.iter_mut().find(|(k, _)| *k == fields.len()) {
                Some(entry) => entry.1 += 1,
                None => counts.push((fields.len(), 1)),
            }
        }
        // The larger count of columns where two are equally frequent: a line that is cut off has fewer.
        let (columns, share) = counts.into_iter().max_by_key(|(k, n)| (*n, *k))?;
        if (delimiter != Delimiter::None && columns < 2) || columns > MAX_COLUMNS || share * 2 < body.len() {
            return None;
        }
        let mut kinds = vec![Tally::default(); columns];
        let mut rows = Vec::new();
        for line in content.iter().chain(later) {
            split(line.text, delimiter, &mut fields);
            if fields.len() == columns {
                rows.push(*line);
            }
        }
        for line in body.iter() {
            split(line.text, delimiter, &mut fields);
            if fields.len() == columns {
                fields.iter().zip(&mut kinds).for_each(|(f, k)| k.add(f));
            }
        }
        // A delimiter at the end of every line begins no column; where a line has something behind it, it does.
        let ends_empty = |l: &Line<'_>| {
            let mut own = Vec::new();
            split(l.text, delimiter, &mut own);
            own.len() != columns || own.last() == Some(&"")
        };
        let trailing = columns > 1
            && kinds.last().is_some_and(|k| k.missing > 0 && k.numbers + k.stamps + k.texts == 0)
            && content.iter().chain(later).all(ends_empty);
        let numbers = kinds.iter().filter(|k| k.is_number()).count();
        let junk = kinds.iter().any(|k| k.junk && !k.is_number() && !k.is_stamp());
        let quoted = delimiter == Delimiter::Comma && body.iter().any(|l| l.text.contains('"'));
        // One column: nearly every line must be a number.
        let alone = delimiter == Delimiter::None && kinds[0].texts * 5 > kinds[0].numbers;
        let fits = numbers > 0 && (!junk || quoted) && !alone;
        // The rows are the lines that look like the body.
        let mut own = Self { delimiter, columns, trailing, kinds, rows };
        if !fits {
            return None;
        }
        let rows = std::mem::take(&mut own.rows);
        own.rows = rows.into_iter().filter(|l| own.is_row(l.text)).collect();
        (!own.rows.is_empty()).then_some(own)
    }

    /// Whether a line looks like the rows of the body.
    fn is_row(&self, line: &str) -> bool {
        let mut fields = Vec::new();
        split(line, self.delimiter, &mut fields);
        let lengths = self.columns - usize::from(self.trailing)..=self.columns;
        if !lengths.contains(&fields.len()) {
            return false;
        }
        let mut values = 0;
        let mut first_missing = false;
        for (i, (field, kind)) in fields.iter().zip(&self.kinds).enumerate() {
            let is_value = number(field, Decimal::Point).or_else(|| number(field, Decimal::Comma)).is_some();
            let missing = is_missing(field);
            first_missing |= i == 0 && missing && kind.missing == 0;
            if kind.is_number() {
                if !is_value && !missing {
                    return false;
                }
                values += usize::from(is_value);
            } else if kind.is_stamp() && !missing && stamp(field).is_none() {
                return false;
            }
        }
        // A row of counts of samples (AcqKnowledge) leaves out the time, which no row does.
        values > 0 && !first_missing
    }

    /// Names, units, marks and the first row.
    fn finish(self, head: &[Line<'a>], content: &[Line<'a>], decimal: Option<Decimal>) -> Result<Layout> {
        // A row whose successor is one as well, so that a single number in a header block is none.
        let index = |n: usize| self.is_row(content[n].text);
        let first = (0..content.len())
            .find(|&n| index(n) && (n + 1 == content.len() || index(n + 1) || self.rows.len() < 3))
            .or_else(|| (0..content.len()).find(|&n| index(n)))
            .ok_or_else(|| Error::data("the table holds no rows of numbers"))?;
        let first = first + usize::from(self.is_row_of_counts(content, first));
        let first_line = content[first];
        let block: Vec<(usize, &str)> =
            head.iter().take_while(|l| l.number < first_line.number).map(|l| (l.number, l.text)).collect();
        let facts = Facts::of(&block);
        let columns = self.columns - usize::from(self.trailing);
        let header = self.header(&block, columns, &facts)?;
        // 0,004,0,0013: two numbers with decimal commas between commas.
        let second: Vec<&Tally> = self.kinds.iter().skip(1).step_by(2).collect();
        let is_split = self.delimiter == Delimiter::Comma
            && columns.is_multiple_of(2)
            && header.names.is_empty()
            && second.iter().all(|t| t.digits > 0 && t.digits == t.numbers)
            && second.iter().any(|t| t.leading_zero);
        if is_split && columns > 2 {
            return Err(Error::data(format!(
                "decimal commas? The rows have {columns} fields, and every second one looks like decimals: commas stand \
                 between the columns and before the decimals"
            ))
            .at(format!("line {}", first_line.number))
            .remedy("export the table with semicolons or tabs between the columns, or with decimal points"));
        }
        let kinds = self.marks(decimal, columns, &first_line)?;
        let mut out = Vec::with_capacity(columns);
        for (i, kind) in kinds.into_iter().enumerate() {
            let (mut label, mut unit) =
                match header.names.get(i).map(String::as_str).filter(|n| !n.is_empty()) {
                    Some(name) => name_and_unit(name),
                    None => (String::new(), None),
                };
            let named = !label.is_empty();
            if !named {
                label = format!("column {}", i + 1);
            }
            if unit.is_none() {
                unit = header.units.get(i).filter(|u| !u.is_empty()).cloned();
            }
            out.push(Column { label, named, unit, kind });
        }
        Ok(Layout {
            delimiter: self.delimiter,
            columns: out,
            trailing: self.trailing,
            first: (first_line.at, first_line.number),
            names_line: header.names_line,
            units_line: header.units_line,
            facts,
        })
    }

    /// Whether row `n` is the one in which AcqKnowledge writes the number of samples below `CH1 CH2 ...`.
    fn is_row_of_counts(&self, content: &[Line<'a>], n: usize) -> bool {
        let mut fields = Vec::new();
        let Some(above) = n.checked_sub(1).map(|k| content[k]) else { return false };
        split(above.text, self.delimiter, &mut fields);
        let is_channel = |f: &&str| f.strip_prefix("CH").is_some_and(|c| c.parse::<u32>().is_ok());
        let names = fields.iter().filter(|f| !f.is_empty()).all(is_channel);
        split(content[n].text, self.delimiter, &mut fields);
        let mut counts = fields.iter().filter(|f| !f.is_empty()).map(|f| f.parse::<u64>());
        let count = counts.next().and_then(std::result::Result::ok);
        names && n + 1 < content.len() && count.is_some() && counts.all(|c| c.ok() == count)
    }

    /// The rows of names and units above the first row.
    fn header(&self, block: &[(usize, &str)], columns: usize, facts: &Facts) -> Result<Header> {
        if let Some(names) = facts.names.as_ref().filter(|n| n.len() == columns) {
            let units = facts.units.clone().unwrap_or_default();
            return Ok(Header { names: names.clone(), units, names_line: None, units_line: None });
        }
        let mut fields = Vec::new();
        let mut out = Header::default();
        for (n, line) in block.iter().rev() {
            let comment = is_comment(line);
            if line.trim().is_empty() || (comment && out.names_line.is_some()) {
                break;
            }
            let own = if comment { line.trim_start_matches(['#', '%', '/', ' ']) } else { line };
            split(own, self.delimiter, &mut fields);
            let count = fields.len() - usize::from(fields.len() > columns && fields.last() == Some(&""));
            let numbers = fields.iter().filter(|f| number(f, Decimal::Point).is_some()).count();
            // R leaves out the name of the first column.
            let short = count + 1 == columns && columns > 2 && !comment && out.names_line.is_none();
            let texts = fields.iter().filter(|f| !f.is_empty()).count();
            if count == 2 * columns && self.delimiter == Delimiter::None && columns == 1 {
                break;
            }
            if self.delimiter == Delimiter::Comma
                && columns == 2 * count
                && numbers == 0
                && count > 1
                && !comment
            {
                return Err(Error::data(format!(
                    "the header names {count} columns, the rows have {columns} fields: commas stand between the columns \
                     and before the decimals"
                ))
                .at(format!("line {n}"))
                .remedy("export the table with semicolons or tabs between the columns, or with decimal points"));
            }
            if (count != columns && !short) || numbers > 0 || texts == 0 {
                // The counts of samples of AcqKnowledge.
                if numbers == texts && texts > 0 && fields.first() == Some(&"") {
                    continue;
                }
                // A comment of words between names and numbers.
                if comment {
                    continue;
                }
                break;
            }
            let mut names: Vec<String> = fields.iter().take(columns).map(|f| f.to_string()).collect();
            if short {
                names.insert(0, String::new());
            }
            let same = names.len() > 1 && names.iter().all(|f| ["RAW", "CAL", "UNCAL"].contains(&f.as_str()));
            if out.units_line.is_none()
                && names.iter().all(|f| is_unit(f))
                && names.iter().any(|f| is_known_unit(f))
            {
                (out.units, out.units_line) = (names, Some(*n));
            } else if !same {
                (out.names, out.names_line) = (names, Some(*n));
                break;
            }
        }
        Ok(out)
    }

    /// What each column holds, its decimal mark decided.
    fn marks(&self, decimal: Option<Decimal>, columns: usize, first: &Line<'_>) -> Result<Vec<Kind>> {
        let tallies = &self.kinds[..columns];
        let unquoted_comma = self.delimiter == Delimiter::Comma;
        let commas: usize = tallies.iter().map(|t| t.marks.comma).sum();
        let points: usize = tallies.iter().map(|t| t.marks.point).sum();
        let mut out = Vec::with_capacity(columns);
        for (i, tally) in tallies.iter().enumerate() {
            if tally.is_stamp() {
                out.push(Kind::Stamp);
                continue;
            }
            if tally.texts == 0 && tally.nans > 0 && tally.numbers == 0 {
                // A signal of which no value was recorded.
                out.push(Kind::Number(Decimal::Point));
                continue;
            }
            if !tally.is_number() {
                out.push(if tally.texts > 0 { Kind::Text } else { Kind::Empty });
                continue;
            }
            let marks = &tally.marks;
            let place = || format!("line {}, column {}", first.number, i + 1);
            let mark = match (decimal, marks.point, marks.comma, &marks.either) {
                (Some(mark), ..) => mark,
                // A signal that passes through 0 has values below 1000, which have no comma between thousands.
                (None, 0, 0, Some(_))
                    if marks.either_signs.iter().all(|n| *n > 0)
                        && marks.either_signs.iter().sum::<usize>() == tally.numbers =>
                {
                    Decimal::Comma
                }
                (None, 0, 0, Some(field)) if commas > 0 && points > 0 || (commas == 0 && points == 0) => {
                    let point = number(field, Decimal::Point).unwrap_or(f64::NAN);
                    let comma = number(field, Decimal::Comma).unwrap_or(f64::NAN);
                    return Err(Error::data(format!(
                        "'{field}' can be {comma} (decimal comma) or {point} (comma between thousands)"
                    ))
                    .at(place())
                    .remedy("say which: --decimal comma or --decimal point"));
                }
                (None, 0, 0, Some(_)) => {
                    if commas > 0 {
                        Decimal::Comma
                    } else {
                        Decimal::Point
                    }
                }
                (None, p, c, _) if p > 0 && c > 0 => {
                    // A few of one kind among many are errors in the file, and are named where they stand.
                    if p >= c { Decimal::Point } else { Decimal::Comma }
                }
                (None, _, c, _) if c > 0 && (!unquoted_comma || tally.marks.point == 0) => Decimal::Comma,
                _ => Decimal::Point,
            };
            out.push(Kind::Number(mark));
        }
        Ok(out)
    }
}
