//! The public surface of the crates, as a committed list: a change of it shows in review.
//!
//! `HEARTLORE_UPDATE=1 cargo test --test public_api` writes `tests/public_api.txt` anew.
//!
//! The list is read from the sources: public items of public modules, and what public modules re-export. Fields, variants
//! and methods are listed below their type; items hidden from the documentation are left out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One module: its path as users write it, and its source without comments, strings and test code.
struct Module {
    path: String,
    file: PathBuf,
    source: String,
}

/// Source lines without comments and without the bodies of strings; enough for finding items.
fn stripped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let (mut in_line, mut in_string, mut depth) = (false, false, 0);
    let mut previous = ' ';
    while let Some(c) = chars.next() {
        let next = chars.peek().copied().unwrap_or(' ');
        match c {
            '\n' => {
                in_line = false;
                out.push('\n');
            }
            _ if in_line => {}
            '/' if !in_string && depth == 0 && next == '/' => in_line = true,
            '/' if !in_string && next == '*' => depth += 1,
            '*' if depth > 0 && next == '/' => {
                depth -= 1;
                chars.next();
            }
            _ if depth > 0 => {}
            '\\' if in_string => {
                chars.next();
            }
            '\'' if !in_string && (next == '"' || next == '{' || next == '}') => {
                // A character literal that would confuse the scan.
                chars.next();
                chars.next();
                out.push_str("' '");
            }
            '"' if previous != '\\' => {
                in_string = !in_string;
                out.push(c);
            }
            _ if in_string => {}
            _ => out.push(c),
        }
        previous = c;
    }
    out
}

/// The items of a stretch of code at brace depth 0: the text up to `{` or `;`, and the body.
fn items(code: &str) -> Vec<(String, String)> {
    let (mut out, mut head, mut body, mut depth) = (Vec::new(), String::new(), String::new(), 0usize);
    let (mut round, mut is_use) = (0i32, false);
    for c in code.chars() {
        if depth == 0 && head.trim_start().starts_with("pub use") {
            is_use = true;
        }
        match c {
            '{' if is_use => head.push(c),
            '}' if is_use => head.push(c),
            '{' if round == 0 || depth > 0 => {
                if depth > 0 {
                    body.push(c);
                }
                depth += 1;
            }
            '}' if depth > 0 => {
                depth -= 1;
                if depth == 0 {
                    out.push((std::mem::take(&mut head), std::mem::take(&mut body)));
                } else {
                    body.push(c);
                }
            }
            ';' if depth == 0 && round == 0 => {
                out.push((std::mem::take(&mut head), String::new()));
                is_use = false;
            }
            _ if depth > 0 => body.push(c),
            _ => {
                match c {
                    '(' | '[' => round += 1,
                    ')' | ']' => round -= 1,
                    _ => {}
                }
                head.push(c);
            }
        }
    }
    out
}

fn spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The head without attributes, and whether they hide the item.
fn without_attributes(head: &str) -> (String, bool) {
    let mut rest = head.trim_start();
    let mut hidden = false;
    while let Some(after) = rest.strip_prefix('#') {
        let end = after
            .char_indices()
            .scan(0i32, |depth, (i, c)| {
                *depth += i32::from(c == '[') - i32::from(c == ']');
                Some((i, *depth))
            })
            .find(|(i, depth)| *depth == 0 && *i > 0)
            .map_or(after.len(), |(i, _)| i + 1);
        let attribute = &after[..end];
        hidden |= attribute.contains("hidden") || attribute.replace(' ', "").contains("cfg(test)");
        rest = after[end..].trim_start();
    }
    (spaced(rest), hidden)
}

/// What `pub use first::..` takes from the module `first`: the words of the rest of the path.
fn re_exported(items: &[(String, String)], first: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (head, _) in items {
        let (head, hidden) = without_attributes(head);
        let path = head.strip_prefix("pub use ").map(|p| p.trim_start_matches("self::"));
        if let Some(rest) = path.and_then(|p| p.strip_prefix(first)).and_then(|p| p.strip_prefix("::"))
            && !hidden
        {
            let words = rest.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '*');
            names.extend(words.filter(|w| !w.is_empty()).map(str::to_string));
        }
    }
    names
}

/// The type of `impl<T> Type<T> where ..`.
fn implemented(head: &str) -> &str {
    let mut rest = head.trim_start_matches("impl");
    if rest.starts_with('<') {
        let mut depth = 0;
        let end = rest.char_indices().find(|(_, c)| {
            depth += i32::from(*c == '<') - i32::from(*c == '>');
            depth == 0
        });
        rest = &rest[end.map_or(0, |(i, _)| i + 1)..];
    }
    rest.trim_start().split(['<', ' ']).next().unwrap_or("")
}

/// Lists the public items of a module and of its public modules.
fn list(module: &Module, out: &mut BTreeSet<String>) {
    list_some(module, &BTreeSet::from(["*".to_string()]), out);
}

/// As [`list`], of the items called `names` (`*`: all).
fn list_some(module: &Module, names: &BTreeSet<String>, out: &mut BTreeSet<String>) {
    let items_here = items(&module.source);
    let wanted = |name: &str| names.contains("*") || names.contains(name);
    for (head, body) in items_here.clone() {
        let (head, hidden) = without_attributes(&head);
        if hidden {
            continue;
        }
        let entry = |text: &str| format!("{}: {}", module.path, text);
        let private = head.strip_prefix("mod ").or(head.strip_prefix("pub(crate) mod "));
        if let Some(name) = private.and_then(|m| m.split_whitespace().next()) {
            let taken = re_exported(&items_here, name);
            if !taken.is_empty() {
                let inner = submodule(module, name, &body);
                list_some(&Module { path: module.path.clone(), ..inner }, &taken, out);
            }
            continue;
        }
        if let Some(public) = head.strip_prefix("pub ") {
            let word = public.split_whitespace().next().unwrap_or("");
            if word == "use" {
                out.insert(entry(public));
                continue;
            }
            if !wanted(name_of(public)) {
                continue;
            }
            if word == "mod" {
                let name = public.split_whitespace().nth(1).unwrap_or("").to_string();
                let inner = submodule(module, &name, &body);
                out.insert(entry(public));
                list(&inner, out);
                continue;
            }
            // Up to the body or the value: what a caller sees.
            let shown = public.split(" = ").next().unwrap_or(public);
            out.insert(entry(shown));
            if word == "trait" {
                for (method, _) in items(&body) {
                    let (method, hidden) = without_attributes(&method);
                    if !hidden && !method.is_empty() {
                        out.insert(entry(&format!("{} :: {method}", name_of(public))));
                    }
                }
            }
        } else if head.starts_with("impl") && !head.contains(" for ") && wanted(implemented(&head)) {
            for (method, _) in items(&body) {
                let (method, hidden) = without_attributes(&method);
                if !hidden && let Some(method) = method.strip_prefix("pub ") {
                    out.insert(entry(&format!("{} :: {method}", spaced(&head))));
                }
            }
        }
    }
}

/// The second word of `struct Name<..> ..` and the like, without generics.
fn name_of(item: &str) -> &str {
    let word = item.split_whitespace().nth(1).unwrap_or("");
    let word = if ["fn", "unsafe", "const"].contains(&word) {
        item.split_whitespace().find(|w| !["const", "unsafe", "fn"].contains(w)).unwrap_or("")
    } else {
        word
    };
    word.split(['<', ':', '(']).next().unwrap_or(word)
}

fn submodule(parent: &Module, name: &str, body: &str) -> Module {
    let path = format!("{}::{name}", parent.path);
    if !body.is_empty() {
        return Module { path, file: parent.file.clone(), source: body.into() };
    }
    let stem = parent.file.file_stem().unwrap().to_string_lossy().into_owned();
    let mut folder = parent.file.parent().unwrap().to_path_buf();
    if !["lib", "mod", "main"].contains(&stem.as_str()) {
        folder.push(stem);
    }
    let file = [folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")]
        .into_iter()
        .find(|f| f.exists())
        .unwrap_or_else(|| panic!("no file for the module {path}"));
    let source = stripped(&std::fs::read_to_string(&file).unwrap());
    Module { path, file, source }
}

fn surface() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut out = BTreeSet::new();
    for (name, file) in [("heartlore", "src/lib.rs"), ("heartlore_kernels", "kernels/src/lib.rs")] {
        let file = root.join(file);
        let source = stripped(&std::fs::read_to_string(&file).unwrap());
        list(&Module { path: name.into(), file, source }, &mut out);
    }
    out.into_iter().map(|line| line + "\n").collect()
}

#[test]
fn the_public_surface_is_the_committed_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/public_api.txt");
    let found = surface();
    if std::env::var_os("HEARTLORE_UPDATE").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
    let (old, new): (BTreeSet<&str>, BTreeSet<&str>) = (committed.lines().collect(), found.lines().collect());
    let gone: Vec<String> = old.difference(&new).map(|l| format!("- {l}")).collect();
    let come: Vec<String> = new.difference(&old).map(|l| format!("+ {l}")).collect();
    assert!(
        gone.is_empty() && come.is_empty(),
        "the public surface changed; if that is meant, HEARTLORE_UPDATE=1 cargo test --test public_api\n{}\n{}",
        gone.join("\n"),
        come.join("\n")
    );
}

#[test]
fn a_change_of_the_surface_is_seen() {
    let of = |source: &str| {
        let mut out = BTreeSet::new();
        let module = Module { path: "m".into(), file: "src/lib.rs".into(), source: stripped(source) };
        list(&module, &mut out);
        out
    };
    let before = of("pub struct A { x: i32 }\nimpl A { pub fn f(&self) -> i32 { 1 } fn g(&self) {} }");
    assert_eq!(before.into_iter().collect::<Vec<_>>(), ["m: impl A :: fn f(&self) -> i32", "m: struct A"]);
    let inner = of("/// pub fn no() {}\npub mod a { pub fn b() {} fn c() {} } #[doc(hidden)] pub fn d() {}");
    assert_eq!(inner.into_iter().collect::<Vec<_>>(), ["m: mod a", "m::a: fn b()"]);
    let taken = of("mod a { pub fn b() {} pub fn c() {} impl D { pub fn e() {} } } pub use a::{b, D};");
    assert_eq!(
        taken.into_iter().collect::<Vec<_>>(),
        ["m: fn b()", "m: impl D :: fn e()", "m: use a::{b, D}"]
    );
    let used = of("pub use a::{B, C};\npub trait T { fn m(&self) { } }");
    assert_eq!(
        used.into_iter().collect::<Vec<_>>(),
        ["m: T :: fn m(&self)", "m: trait T", "m: use a::{B, C}"]
    );
}
