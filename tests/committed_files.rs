//! Every committed SVG, JSON and TOML file parses, and every relative link in a Markdown file leads to a file.

use std::path::{Path, PathBuf};

/// Folders that hold no committed files, or inputs that are damaged on purpose.
const SKIPPED: &[&str] = &["target", ".git", "node_modules"];

fn walk(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_symlink() || SKIPPED.contains(&name.as_str()) || name.starts_with("target") {
            continue;
        }
        if path.is_dir() {
            walk(&path, out);
        } else {
            out.push(path);
        }
    }
}

fn files(extension: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    walk(Path::new(env!("CARGO_MANIFEST_DIR")), &mut all);
    all.retain(|p| p.extension().is_some_and(|e| e == extension));
    all.sort();
    all
}

/// The complaint of `check` about every file, with its path.
fn complaints(extension: &str, at_least: usize, check: impl Fn(&str) -> Result<(), String>) {
    let files = files(extension);
    assert!(files.len() >= at_least, "only {} {extension} files found", files.len());
    let wrong: Vec<String> = files
        .iter()
        .filter_map(|path| {
            let text = std::fs::read_to_string(path).map_err(|e| e.to_string());
            text.and_then(|t| check(&t)).err().map(|e| format!("{}: {e}", path.display()))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn svg(text: &str) -> Result<(), String> {
    let options = roxmltree::ParsingOptions { allow_dtd: false, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(text, options).map_err(|e| e.to_string())?;
    let root = document.root_element();
    if root.tag_name().name() != "svg" || root.tag_name().namespace() != Some("http://www.w3.org/2000/svg") {
        return Err(format!("the root element is {:?}", root.tag_name()));
    }
    if !root.children().any(|c| c.tag_name().name() == "title") {
        return Err("no title for readers who cannot see the picture".into());
    }
    Ok(())
}

#[test]
fn every_svg_is_well_formed() {
    complaints("svg", 1, svg);
}

#[test]
fn a_picture_that_is_cut_off_is_noticed() {
    assert!(svg("<svg xmlns=\"http://www.w3.org/2000/svg\"><title>a</title></svg>").is_ok());
    assert!(svg("<svg xmlns=\"http://www.w3.org/2000/svg\"><title>a</title>").is_err());
    assert!(svg("<svg><title>a</title></svg>").is_err());
}

#[test]
fn every_json_file_parses() {
    complaints("json", 1, |text| {
        serde_json::from_str::<serde_json::Value>(text).map(|_| ()).map_err(|e| e.to_string())
    });
}

#[test]
fn every_toml_file_parses() {
    complaints("toml", 3, |text| toml::from_str::<toml::Table>(text).map(|_| ()).map_err(|e| e.to_string()));
}

/// Targets of the inline links of a Markdown text that are files beside it.
fn links(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for part in line.split("](").skip(1) {
            let Some(target) = part.split(')').next() else { continue };
            let target = target.split('#').next().unwrap_or("").trim();
            if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
                out.push(target.to_string());
            }
        }
    }
    out
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    let files = files("md");
    assert!(files.len() > 3, "only {} Markdown files found", files.len());
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        for target in links(&text) {
            if !path.parent().unwrap().join(&target).exists() {
                wrong.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn links_are_found() {
    let text = "[a](b.md), [c](d/e.md#f) [g](https://h.i)\n```\n[no](code.md)\n```\n[j](#k) ![l](m.svg)";
    assert_eq!(links(text), ["b.md", "d/e.md", "m.svg"]);
}
