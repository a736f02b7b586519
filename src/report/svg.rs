//! A small SVG writer: escaped text, checked numbers, a class on every shape.
//!
//! Written by hand instead of with plotters: that crate's SVG backend rounds every coordinate to whole pixels, which
//! turns an ECG trace into a staircase, and fixes colours in attributes, so one file cannot serve light and dark pages.
//! A plot here needs rectangles, paths and text only.

use std::fmt::{self, Write as _};

use crate::error::Result;

/// A finished picture: one complete `<svg>` element, without XML declaration, that stands alone as a file and can be
/// placed inside an HTML page. Only the plots of this room make one, so a report never takes foreign markup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Svg(String);

impl Svg {
    /// The markup.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The markup, owned.
    pub fn into_string(self) -> String {
        self.0
    }
    /// Writes the picture to `path`.
    ///
    /// # Errors
    /// [`Kind::Io`](crate::error::Kind::Io) when the file cannot be written.
    pub fn save(&self, path: impl AsRef<std::path::Path>) -> Result<()> {
        crate::checkpoint::write_bytes(path, self.0.as_bytes())
    }
}

impl fmt::Display for Svg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Escapes `text` for element content and quoted attributes of both HTML5 and XML 1.0.
///
/// By hand and not by maud or askama: those escape for HTML, where a control character passes; this text must also be
/// well-formed XML, which is the last rule below. It is the one place where text becomes markup.
///
/// Characters that XML 1.0 forbids (control characters except tab and line ends, U+FFFE, U+FFFF) become U+FFFD.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' => out.push(c),
            '\r' => out.push('\n'),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A coordinate with at most two decimals. Callers drop non-finite data before; should one slip through, 0 is written,
/// because `NaN` in a path makes a browser discard the whole path.
pub(crate) fn num(v: f64) -> String {
    if !v.is_finite() {
        return "0".into();
    }
    let s = format!("{:.2}", v.clamp(-1e6, 1e6));
    let s = s.trim_end_matches('0').trim_end_matches('.');
    if s == "-0" { "0".into() } else { s.into() }
}

/// Estimated width of `text` in pixels at `size` pixels; the viewer's sans-serif font is unknown, so this errs wide.
pub(crate) fn text_width(text: &str, size: f64) -> f64 {
    let em: f64 = text
        .chars()
        .map(|c| match c {
            'i' | 'j' | 'l' | 't' | 'f' | 'r' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' | '(' | ')'
            | ' ' => 0.37,
            'm' | 'w' | 'M' | 'W' | '@' | '%' => 0.88,
            'A'..='Z' => 0.68,
            c if (c as u32) < 0x1100 => 0.61,
            _ => 1.0,
        })
        .sum();
    em * size
}

/// As [`text_width`] for semibold text.
pub(crate) fn bold_width(text: &str, size: f64) -> f64 {
    1.12 * text_width(text, size)
}

/// `text`, cut with an ellipsis where it would be wider than `max_width` pixels.
pub(crate) fn fit(text: &str, size: f64, max_width: f64) -> String {
    if text_width(text, size) <= max_width {
        return text.to_string();
    }
    let mut out = String::new();
    for c in text.chars() {
        out.push(c);
        if text_width(&out, size) + size > max_width {
            out.pop();
            break;
        }
    }
    format!("{}\u{2026}", out.trim_end())
}

/// Where a text hangs on its point.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// The drawing surface. Coordinates are pixels from the top left corner of a `width` x `height` view box.
pub(crate) struct Canvas {
    out: String,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

impl Canvas {
    /// Opens a picture with its accessible name and description.
    pub(crate) fn new(width: f64, height: f64, title: &str, desc: &str) -> Self {
        let mut out = String::new();
        let (w, h) = (num(width), num(height));
        let class = if width >= 800.0 { "hl-plot wide" } else { "hl-plot" };
        // Width and height give a plain image its natural size; the style lets it shrink inside a page.
        let _ = write!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"{class}\" role=\"img\" viewBox=\"0 0 {w} {h}\" \
             width=\"{w}\" height=\"{h}\" style=\"max-width:100%;height:auto\">\n\
             <title>{}</title>\n<desc>{}</desc>\n<style>{}</style>\n",
            escape(title),
            escape(desc),
            super::style::PLOT_CSS,
        );
        let mut canvas = Self { out, width, height };
        canvas.rect("bg", 0.0, 0.0, width, height, 6.0, None);
        canvas
    }
    /// Closes the picture.
    pub(crate) fn finish(mut self) -> Svg {
        self.out.push_str("</svg>\n");
        Svg(self.out)
    }
    /// A straight line.
    pub(crate) fn line(&mut self, class: &str, x1: f64, y1: f64, x2: f64, y2: f64) {
        let (x1, y1, x2, y2) = (num(x1), num(y1), num(x2), num(y2));
        let _ =
            writeln!(self.out, "<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>");
    }
    /// A rectangle with corner radius `r`; `opacity` of the fill, 1 if `None`. Negative sizes are drawn as zero.
    pub(crate) fn rect(&mut self, class: &str, x: f64, y: f64, w: f64, h: f64, r: f64, opacity: Option<f64>) {
        let (x, y, w, h) = (num(x), num(y), num(w.max(0.0)), num(h.max(0.0)));
        let _ = write!(self.out, "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\"");
        if r > 0.0 {
            let _ = write!(self.out, " rx=\"{}\"", num(r));
        }
        if let Some(o) = opacity {
            let _ = write!(self.out, " fill-opacity=\"{}\"", num(o));
        }
        self.out.push_str("/>\n");
    }
    /// A circle, with a text shown on hover.
    pub(crate) fn circle(&mut self, class: &str, cx: f64, cy: f64, r: f64, hover: &str) {
        let (cx, cy, r) = (num(cx), num(cy), num(r));
        let _ = write!(self.out, "<circle class=\"{class}\" cx=\"{cx}\" cy=\"{cy}\" r=\"{r}\"");
        if hover.is_empty() {
            self.out.push_str("/>\n");
        } else {
            let _ = writeln!(self.out, "><title>{}</title></circle>", escape(hover));
        }
    }
    /// A path from ready-made path data; nothing is written for empty data.
    pub(crate) fn path(&mut self, class: &str, data: &str) {
        if !data.is_empty() {
            let _ = writeln!(self.out, "<path class=\"{class}\" d=\"{data}\"/>");
        }
    }
    /// A text.
    pub(crate) fn text(&mut self, class: &str, x: f64, y: f64, anchor: Anchor, text: &str) {
        let anchor = anchor_name(anchor);
        let _ = writeln!(
            self.out,
            "<text class=\"{class}\" x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            num(x),
            num(y),
            escape(text)
        );
    }
    /// A text that reads upwards, centred on its point.
    pub(crate) fn text_up(&mut self, class: &str, x: f64, y: f64, text: &str) {
        let (x, y) = (num(x), num(y));
        let _ = writeln!(
            self.out,
            "<text class=\"{class}\" transform=\"translate({x} {y}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            escape(text)
        );
    }
    /// A text that starts at its point and runs at `degrees` (clockwise).
    pub(crate) fn text_along(&mut self, class: &str, x: f64, y: f64, degrees: f64, text: &str) {
        let (x, y, degrees) = (num(x), num(y), num(degrees));
        let _ = writeln!(
            self.out,
            "<text class=\"{class}\" transform=\"translate({x} {y}) rotate({degrees})\">{}</text>",
            escape(text)
        );
    }
    /// Starts a region outside of which nothing shows. A nested `<svg>` clips without an id, so pictures on one page
    /// cannot clash.
    pub(crate) fn clip(&mut self, x: f64, y: f64, w: f64, h: f64) {
        let (x, y, w, h) = (num(x), num(y), num(w.max(1.0)), num(h.max(1.0)));
        let _ = writeln!(
            self.out,
            "<svg x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" viewBox=\"{x} {y} {w} {h}\" overflow=\"hidden\">"
        );
    }
    /// Ends the region.
    pub(crate) fn unclip(&mut self) {
        self.out.push_str("</svg>\n");
    }
}

fn anchor_name(anchor: Anchor) -> &'static str {
    match anchor {
        Anchor::Start => "start",
        Anchor::Middle => "middle",
        Anchor::End => "end",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_leaves_no_markup() {
        assert_eq!(
            escape("<a href='x'>&\"\u{0}\u{b}"),
            "&lt;a href=&#39;x&#39;&gt;&amp;&quot;\u{fffd}\u{fffd}"
        );
        assert_eq!(escape("Größe 心拍"), "Größe 心拍");
    }

    #[test]
    fn numbers_are_short_and_finite() {
        let cases = [(1.0, "1"), (-0.001, "0"), (2.345, "2.35"), (10.0, "10"), (100.5, "100.5")];
        for (v, s) in cases {
            assert_eq!(num(v), s);
        }
        assert_eq!(num(f64::NAN), "0");
        assert_eq!(num(f64::INFINITY), "0");
        assert_eq!(num(1e300), "1000000");
    }

    #[test]
    fn long_text_is_cut() {
        let long = "w".repeat(500);
        let cut = fit(&long, 12.0, 100.0);
        assert!(text_width(&cut, 12.0) <= 100.0 && cut.ends_with('\u{2026}'));
        assert_eq!(fit("ok", 12.0, 100.0), "ok");
    }
}
