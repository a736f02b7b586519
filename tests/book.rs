//! The listings of the book are the functions of the source, and its table of contents names every chapter.
//!
//! `HEARTLORE_UPDATE=1 cargo test --test book` writes the listings anew.

use std::path::{Path, PathBuf};

const MARKER: &str = "<!-- source: ";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The function `name` of a source text, from its signature to its last brace, moved to the left margin.
fn function(source: &str, name: &str) -> Option<String> {
    let lines: Vec<&str> = source.lines().collect();
    let is_start = |line: &str| {
        let words = line.trim_start().trim_start_matches("pub(super) ").trim_start_matches("pub ");
        words
            .strip_prefix("fn ")
            .and_then(|w| w.strip_prefix(name))
            .is_some_and(|w| w.starts_with(['<', '(']))
    };
    let start = lines.iter().position(|l| is_start(l))?;
    let indent = lines[start].len() - lines[start].trim_start().len();
    let end = lines[start..].iter().position(|l| *l == format!("{}}}", " ".repeat(indent)))? + start;
    let text: Vec<&str> = lines[start..=end].iter().map(|l| l.get(indent..).unwrap_or("")).collect();
    Some(text.join("\n"))
}

/// The chapter with every listing as the source has it.
fn with_listings(chapter: &str, read: impl Fn(&str) -> String) -> String {
    let mut out = String::new();
    let mut lines = chapter.lines();
    while let Some(line) = lines.next() {
        out.push_str(line);
        out.push('\n');
        let Some(rest) = line.strip_prefix(MARKER) else { continue };
        let (file, name) = rest.trim_end_matches(" -->").rsplit_once(' ').expect("a file and a function");
        let listing = function(&read(file), name).unwrap_or_else(|| panic!("{file} has no function {name}"));
        assert_eq!(lines.next(), Some("```rust"), "a listing follows the marker of {file}");
        for skipped in lines.by_ref() {
            if skipped == "```" {
                break;
            }
        }
        out.push_str(&format!("```rust\n{listing}\n```\n"));
    }
    out
}

fn chapters() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(root().join("examples/book/src"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "md"))
        .collect();
    all.sort();
    all
}

#[test]
fn every_listing_is_the_source() {
    let mut listings = 0;
    let mut stale = Vec::new();
    for path in chapters() {
        let committed = std::fs::read_to_string(&path).unwrap().replace("\r\n", "\n");
        listings += committed.matches(MARKER).count();
        let read = |file: &str| std::fs::read_to_string(root().join(file)).expect(file);
        let right = with_listings(&committed, read);
        if right != committed {
            if std::env::var_os("HEARTLORE_UPDATE").is_some() {
                std::fs::write(&path, right).unwrap();
            } else {
                stale.push(path.display().to_string());
            }
        }
    }
    assert!(listings >= 8, "only {listings} listings");
    assert!(stale.is_empty(), "HEARTLORE_UPDATE=1 cargo test --test book; stale: {stale:?}");
}

#[test]
fn a_listing_that_went_stale_is_noticed() {
    let chapter = "a\n<!-- source: f.rs g -->\n```rust\nfn g() {\n    1\n}\n```\nb\n";
    let same = |_: &str| "/// No.\npub fn g() {\n    1\n}\n".to_string();
    let other = |_: &str| "impl X {\n    pub fn g() {\n        2\n    }\n}\n".to_string();
    assert_ne!(with_listings(chapter, same), chapter, "pub is part of the source");
    assert!(with_listings(chapter, same).contains("pub fn g() {\n    1\n}"));
    assert!(with_listings(chapter, other).contains("pub fn g() {\n    2\n}\n```\nb\n"));
}

#[test]
fn the_table_of_contents_names_every_chapter() {
    let contents = std::fs::read_to_string(root().join("examples/book/src/SUMMARY.md")).unwrap();
    for path in chapters() {
        let name = Path::new(path.file_name().unwrap()).display().to_string();
        assert!(name == "SUMMARY.md" || contents.contains(&format!("({name})")), "{name} is in no table");
    }
}
