//! Annotation files in the MIT format (`annot-5.htm` of the WFDB Applications Guide): beats, rhythms, comments.
//!
//! A file is a list of 16-bit little-endian words, a type in the upper 6 bits and in the lower 10 the time since the
//! annotation before. Types above 58 carry more: 59 a long time step, 60 to 62 number, subtype and channel of the
//! annotation before, 63 its text. Number and channel hold until they change; the subtype is for one annotation.
//!
//! A comment at time 0 may state a time resolution of its own and define further types; both are obeyed.

use std::collections::BTreeMap;

/// One annotation with everything that the file says of it.
#[derive(Clone, Debug, PartialEq)]
pub struct WfdbAnnotation {
    /// Sample, counted from 0, at [`WfdbAnnotations::fs_hz`].
    pub sample: i64,
    /// Type: 1 to 49.
    pub code: u8,
    /// The type's symbol: `N` for a normal beat, `V` for a ventricular one, `+` for a change of rhythm, ...
    pub symbol: String,
    /// Subtype.
    pub subtype: i8,
    /// Signal that it belongs to.
    pub channel: u8,
    /// Number, by the annotator's own rule.
    pub number: i8,
    /// Text, such as the rhythm `(AFIB`.
    pub aux: String,
}

impl WfdbAnnotation {
    /// Whether it marks a heart beat: the types that the WFDB library counts as QRS complexes.
    pub fn is_beat(&self) -> bool {
        is_beat(&self.symbol)
    }
}

/// Whether an annotation's symbol (the first word of a recording's [`Annotation`](crate::data::recording::Annotation))
/// stands for a heart beat.
pub fn is_beat(symbol: &str) -> bool {
    const BEATS: &str = "NLRBAaJSVrFejnE/fQ?";
    symbol.chars().count() == 1 && BEATS.contains(symbol)
}

/// An annotation file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WfdbAnnotations {
    /// Rate to which the sample numbers belong, in Hz: the record's, unless the file states one.
    pub fs_hz: f64,
    /// The annotations in the order of the file.
    pub list: Vec<WfdbAnnotation>,
    /// Defects: a cut-off end.
    pub warnings: Vec<String>,
}

/// Symbols of the annotation types 1 to 41 (`ecgcodes.h` of the WFDB library); blank where none is defined.
const SYMBOLS: [&str; 42] = [
    "", "N", "L", "R", "a", "V", "F", "J", "A", "S", "E", "j", "/", "Q", "~", "", "|", "", "s", "T", "*",
    "D", "\"", "=", "p", "B", "^", "t", "+", "u", "?", "!", "[", "]", "e", "n", "@", "x", "f", "(", ")", "r",
];
/// Type of a comment.
const NOTE: u8 = 22;

/// Reads the bytes of an annotation file of a record at `fs_hz`. Never fails: what follows damage is left out, with a
/// warning.
pub fn parse(bytes: &[u8], fs_hz: f64) -> WfdbAnnotations {
    let mut out = WfdbAnnotations { fs_hz, ..WfdbAnnotations::default() };
    let word = |i: usize| bytes.get(i..i + 2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    let (mut i, mut sample) = (0usize, 0i64);
    let (mut channel, mut number) = (0u8, 0i8);
    let mut ended = false;
    while let Some(w) = word(i) {
        i += 2;
        let (code, low) = ((w >> 10) as u8, w & 0x3ff);
        match code {
            _ if w == 0 => {
                ended = true;
                break;
            }
            // SKIP: a 32-bit interval follows, its high half first.
            59 => {
                let (Some(high), Some(low)) = (word(i), word(i + 2)) else { break };
                i += 4;
                sample = sample.saturating_add(i64::from((u32::from(high) << 16 | u32::from(low)) as i32));
            }
            // NUM, SUB, CHN: the lower byte counts.
            60 => {
                number = low as i8;
                out.list.iter_mut().next_back().into_iter().for_each(|a| a.number = number);
            }
            61 => out.list.iter_mut().next_back().into_iter().for_each(|a| a.subtype = low as i8),
            62 => {
                channel = low as u8;
                out.list.iter_mut().next_back().into_iter().for_each(|a| a.channel = channel);
            }
            // AUX: text of this many bytes, padded to a whole word.
            63 => {
                let len = usize::from(low);
                let Some(text) = bytes.get(i..i + len) else { break };
                i += len + len % 2;
                if let Some(last) = out.list.last_mut() {
                    let text: String = text.iter().filter(|b| **b != 0).map(|b| char::from(*b)).collect();
                    last.aux = text.trim().to_string();
                }
            }
            // A step in time without an event; wfdb-python writes one after its comments.
            0 => sample = sample.saturating_add(i64::from(low)),
            _ => {
                sample = sample.saturating_add(i64::from(low));
                let symbol = SYMBOLS.get(usize::from(code)).filter(|t| !t.is_empty());
                let symbol = symbol.map_or_else(|| format!("code {code}"), |s| (*s).to_string());
                let (subtype, aux) = (0, String::new());
                out.list.push(WfdbAnnotation { sample, code, symbol, subtype, channel, number, aux });
            }
        }
    }
    if !ended {
        out.warnings.push(format!("the annotation file is cut off after {} annotations", out.list.len()));
    }
    obey_comments(&mut out);
    out
}

/// Takes the comments that are no events out: the time resolution and the definitions of types.
fn obey_comments(out: &mut WfdbAnnotations) {
    let mut own: BTreeMap<u8, String> = BTreeMap::new();
    let mut defining = false;
    let mut fs_hz = None;
    out.list.retain(|a| {
        if a.sample != 0 || a.code != NOTE {
            return true;
        }
        if let Some(rate) = a.aux.strip_prefix("## time resolution:") {
            fs_hz = rate.trim().parse::<f64>().ok().filter(|f| f.is_finite() && *f > 0.0).or(fs_hz);
            return false;
        }
        match a.aux.as_str() {
            "## annotation type definitions" => defining = true,
            "## end of definitions" => defining = false,
            line if defining => {
                let mut words = line.split_whitespace();
                let code = words.next().and_then(|c| c.parse::<u8>().ok());
                if let (Some(code), Some(symbol)) = (code, words.next()) {
                    own.insert(code, symbol.to_string());
                }
            }
            _ => return true,
        }
        false
    });
    if let Some(fs_hz) = fs_hz {
        out.fs_hz = fs_hz;
    }
    for annotation in &mut out.list {
        if let Some(symbol) = own.get(&annotation.code) {
            annotation.symbol.clone_from(symbol);
        }
    }
}
