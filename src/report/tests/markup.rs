//! A small strict checker for the markup written here, and its own tests.

use std::collections::HashSet;

/// Elements of HTML5 that have no end tag.
const VOID: [&str; 4] = ["meta", "br", "hr", "link"];

/// Checks balance, nesting, quoted attributes without repeats, escaped text, unique ids, and that no NaN or infinity
/// stands in an attribute. Returns the element names in order.
///
/// # Errors
/// The first fault found, with the text around it.
pub(super) fn check(text: &str) -> Result<Vec<String>, String> {
    let (mut open, mut seen, mut ids) = (Vec::<String>::new(), Vec::new(), HashSet::new());
    let mut rest = text.strip_prefix("<!DOCTYPE html>").unwrap_or(text);
    while let Some(at) = rest.find('<') {
        check_text(&rest[..at])?;
        rest = &rest[at + 1..];
        let end = tag_end(rest).ok_or_else(|| format!("tag without end: {}", head(rest)))?;
        let (tag, after) = (&rest[..end], &rest[end + 1..]);
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            match open.pop() {
                Some(o) if o == name => continue,
                other => return Err(format!("</{name}> closes {other:?}")),
            }
        }
        let (tag, closed) = match tag.strip_suffix('/') {
            Some(t) => (t, true),
            None => (tag, false),
        };
        let name = tag.split_whitespace().next().ok_or("empty tag")?.to_string();
        if !name.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(format!("bad name {name:?}"));
        }
        attributes(&tag[name.len()..], &mut ids)?;
        seen.push(name.clone());
        if name == "style" {
            let end = rest.find("</style>").ok_or("style without end")?;
            let css = &rest[..end];
            if css.contains('<') || css.matches('{').count() != css.matches('}').count() {
                return Err("bad style sheet".into());
            }
            rest = &rest[end + "</style>".len()..];
        } else if !closed && !VOID.contains(&name.as_str()) {
            open.push(name);
        }
    }
    check_text(rest)?;
    if open.is_empty() { Ok(seen) } else { Err(format!("never closed: {open:?}")) }
}

fn head(s: &str) -> &str {
    s.get(..60).unwrap_or(s)
}

/// The `>` that ends a tag, quotes respected.
fn tag_end(s: &str) -> Option<usize> {
    let mut quoted = false;
    s.char_indices().find_map(|(i, c)| {
        quoted ^= c == '"';
        (c == '>' && !quoted).then_some(i)
    })
}

fn check_text(s: &str) -> Result<(), String> {
    if s.contains('>') {
        return Err(format!("bare > in {}", head(s)));
    }
    if s.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Err(format!("control character in {s:?}"));
    }
    for part in s.split('&').skip(1) {
        let entity = part.split(';').next().unwrap_or("");
        if !["amp", "lt", "gt", "quot", "#39"].contains(&entity) {
            return Err(format!("bare & before {}", head(part)));
        }
    }
    Ok(())
}

fn attributes(mut s: &str, ids: &mut HashSet<String>) -> Result<(), String> {
    let mut names = HashSet::new();
    loop {
        s = s.trim_start();
        if s.is_empty() {
            return Ok(());
        }
        let (name, after) =
            s.split_once("=\"").ok_or_else(|| format!("attribute without quotes: {}", head(s)))?;
        let (value, after) = after.split_once('"').ok_or("value without end")?;
        s = after;
        check_text(value)?;
        if !names.insert(name) {
            return Err(format!("{name} twice"));
        }
        if name == "id" && !ids.insert(value.to_string()) {
            return Err(format!("id {value} twice"));
        }
        if value.contains("NaN") || (value.contains("inf") && name != "class") {
            return Err(format!("{name}={value:?} is no number"));
        }
        let numeric = ["x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "r", "width", "height", "fill-opacity"];
        if numeric.contains(&name) && !value.parse::<f64>().is_ok_and(f64::is_finite) {
            return Err(format!("{name}={value:?} is no number"));
        }
        if ["width", "height", "r"].contains(&name) && value.starts_with('-') {
            return Err(format!("{name}={value:?} is negative"));
        }
    }
}

#[test]
fn the_checker_finds_faults() {
    let good = "<svg><g a=\"1\"><line x=\"2\"/></g><title>a &amp; b</title></svg>";
    assert_eq!(check(good).unwrap(), ["svg", "g", "line", "title"]);
    for bad in [
        "<svg>",
        "<a></b>",
        "<a x=1/>",
        "<a x=\"1\" x=\"2\"/>",
        "<p>a & b</p>",
        "<p>a > b</p>",
        "<p>\u{1}</p>",
        "<line x1=\"NaN\"/>",
        "<path d=\"M1 NaN\"/>",
        "<rect width=\"-1\"/>",
        "<p id=\"a\"></p><p id=\"a\"></p>",
        "<style>a{</style>",
    ] {
        assert!(check(bad).is_err(), "{bad}");
    }
}
