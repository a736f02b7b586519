//! The house's arrows: which room may name which. Reads the sources of `src/` and `kernels/src/`, without comments, strings
//! and test modules, and fails on a path that runs backwards, on a thread pool outside its places, and on `unsafe`
//! outside the instruction-set tokens and the matrix product. Inside a room it follows every path to the file that defines what
//! is named, through re-exports, and fails on a circle of files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Every room and what it may name besides itself. `error` and `kernels` may be named by every room above the kernels.
const ARROWS: &[(&str, &[&str])] = &[
    ("kernels", &[]),
    ("error", &[]),
    ("tensor", &[]),
    ("graph", &["tensor"]),
    ("nn", &["tensor", "graph"]),
    // These know no graph, so that they can be used, tested and replaced without one.
    ("signal", &[]),
    ("optim", &[]),
    ("metrics", &[]),
    // Named tensors only; safe replacement of files, which needs none.
    ("checkpoint", &["tensor"]),
    ("report", &["metrics", "checkpoint"]),
    // The prepared store is written as safely as a checkpoint.
    ("data", &["signal", "checkpoint"]),
    // A trained model with all it needs to be run: its own preparation of a recording, never a data set's reader.
    ("model", &["tensor", "graph", "nn", "signal", "data", "checkpoint", "optim", "metrics"]),
    // The one place that joins data and model.
    (
        "train",
        &["tensor", "graph", "nn", "signal", "data", "checkpoint", "optim", "metrics", "report", "model"],
    ),
    // Figures and sentences about predictions; it trains nothing and draws nothing.
    ("evaluate", &["signal", "data", "metrics"]),
    (
        "cli",
        &[
            "tensor",
            "graph",
            "nn",
            "signal",
            "data",
            "checkpoint",
            "optim",
            "metrics",
            "report",
            "model",
            "train",
            "evaluate",
        ],
    ),
];

/// Where threads are started: shards of a batch, added in a fixed order, and recordings prepared one by one. Anywhere else
/// a parallel sum could make results depend on the number of threads. The prepare command makes the pool, as large as its
/// flag says, that the recordings are prepared in. A team shares one forward pass: its parts write apart from each other and
/// nothing is summed across them.
const MAY_NAME_RAYON: &[&str] =
    &["src/graph/pool.rs", "src/train/shard.rs", "src/data/prepare", "src/cli/prepare.rs"];

/// Where `unsafe` may stand: the tokens' intrinsics, the matrix product, and one measurement among the tests, which calls
/// matrixmultiply for comparison.
const MAY_BE_UNSAFE: &[&str] =
    &["kernels/src/isa", "kernels/src/gemm", "kernels/src/attention/tests/speed.rs"];

/// Source without comments, string and character literals; line breaks stay.
fn bare(source: &str) -> String {
    let c: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut i = 0;
    let line_breaks = |out: &mut String, part: &[char]| {
        out.push(' ');
        out.extend(part.iter().filter(|c| **c == '\n'));
    };
    while i < c.len() {
        let rest = &c[i..];
        let starts = |s: &str| s.chars().enumerate().all(|(j, x)| rest.get(j) == Some(&x));
        let start = i;
        let before = i.checked_sub(1).map_or(' ', |j| c[j]);
        let hashes = rest.iter().skip(1).take_while(|x| **x == '#').count();
        if starts("//") {
            i += rest.iter().position(|x| *x == '\n').unwrap_or(rest.len());
        } else if starts("/*") {
            let mut depth = 0;
            loop {
                if c[i..].starts_with(&['/', '*']) {
                    (depth, i) = (depth + 1, i + 2);
                } else if c[i..].starts_with(&['*', '/']) {
                    (depth, i) = (depth - 1, i + 2);
                } else {
                    i += 1;
                }
                if depth == 0 || i >= c.len() {
                    break;
                }
            }
        } else if rest[0] == 'r' && rest.get(1 + hashes) == Some(&'"') && !before.is_alphanumeric() {
            let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            i += 2 + hashes;
            while i < c.len() && !c[i..].starts_with(&end) {
                i += 1;
            }
            i += end.len();
        } else if rest[0] == '"' {
            i += 1;
            while i < c.len() && c[i] != '"' {
                i += if c[i] == '\\' { 2 } else { 1 };
            }
            i += 1;
        } else if rest[0] == '\'' && rest.get(1) == Some(&'\\') {
            i += 3;
            while i < c.len() && c[i] != '\'' {
                i += 1;
            }
            i += 1;
        } else if rest[0] == '\'' && rest.get(2) == Some(&'\'') {
            i += 3;
        } else {
            out.push(rest[0]);
            i += 1;
            continue;
        }
        i = i.min(c.len());
        line_breaks(&mut out, &c[start..i]);
    }
    out
}

/// Words and the punctuation that matters here.
fn tokens(bare: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut previous = ' ';
    for c in bare.chars().chain([' ']) {
        if c.is_alphanumeric() || c == '_' {
            word.push(c);
        } else {
            if !word.is_empty() {
                out.push(std::mem::take(&mut word));
            }
            match (previous, c) {
                (':', ':') if out.last().is_some_and(|t| t == ":") => *out.last_mut().unwrap() = "::".into(),
                _ if !c.is_whitespace() => out.push(c.into()),
                _ => {}
            }
        }
        previous = c;
    }
    out
}

/// The tokens without what is compiled for tests only, and the names of test modules that are files of their own.
fn without_tests(tokens: &[String]) -> (Vec<String>, Vec<String>) {
    let (mut out, mut files) = (Vec::new(), Vec::new());
    let marker = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut i = 0;
    while i < tokens.len() {
        if tokens.len() - i < marker.len() || !tokens[i..].iter().zip(marker).all(|(t, m)| t == m) {
            out.push(tokens[i].clone());
            i += 1;
            continue;
        }
        i += marker.len();
        // The item that follows ends at its first semicolon or at the end of its first block.
        let mut depth = 0;
        let item = i;
        while i < tokens.len() {
            let token = tokens[i].as_str();
            i += 1;
            match token {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 && (token == ";" || token == "}") {
                break;
            }
        }
        if let Some(at) = tokens[item..i].iter().position(|t| t == "mod")
            && tokens.get(item + at + 2).is_some_and(|t| t == ";")
        {
            files.push(tokens[item + at + 1].clone());
        }
    }
    (out, files)
}

/// Rooms named by a file at module path `module` (`src/graph/plan.rs` is `[graph, plan]`).
fn rooms_named(tokens: &[String], module: &[String]) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    let mut note = |name: &str| {
        // Re-exports of the root: Error and Result.
        let room = if name.starts_with(|c: char| c.is_uppercase()) { "error" } else { name };
        if !["self", "*"].contains(&room) {
            named.insert(room.to_string());
        }
    };
    let at = |i: usize| tokens.get(i).map_or("", String::as_str);
    for i in 0..tokens.len() {
        // `a::crate` does not exist, and `a::super` neither: such words begin a path.
        let mut next = match at(i) {
            "heartlore_kernels" => {
                note("kernels");
                continue;
            }
            "crate" | "heartlore" if at(i + 1) == "::" => i + 2,
            "super" if at(i + 1) == "::" && (i < 2 || at(i - 2) != "super") => {
                let mut supers = 1;
                let mut j = i + 2;
                while at(j) == "super" && at(j + 1) == "::" {
                    (supers, j) = (supers + 1, j + 2);
                }
                if supers < module.len() {
                    continue;
                }
                j
            }
            _ => continue,
        };
        if at(next) != "{" {
            note(at(next));
            continue;
        }
        // A group: the first word of every element at its top level.
        let mut depth = 0;
        while next < tokens.len() {
            match at(next) {
                "{" => depth += 1,
                "}" => depth -= 1,
                word if depth == 1 && ["{", ","].contains(&at(next - 1)) => note(word),
                _ => {}
            }
            if depth == 0 {
                break;
            }
            next += 1;
        }
    }
    named
}

/// Every complaint about a set of (path, source).
fn complaints(files: &BTreeMap<String, String>) -> Vec<String> {
    let parsed: BTreeMap<&String, (Vec<String>, Vec<String>)> =
        files.iter().map(|(path, source)| (path, without_tests(&tokens(&bare(source))))).collect();
    let mut test_only: Vec<String> = Vec::new();
    for (path, (_, modules)) in &parsed {
        let folder = match path.rsplit_once('/') {
            Some((folder, "mod.rs" | "lib.rs" | "main.rs")) => folder.to_string(),
            _ => path.trim_end_matches(".rs").to_string(),
        };
        test_only.extend(modules.iter().map(|m| format!("{folder}/{m}")));
    }
    let is_test = |path: &str| {
        test_only.iter().any(|t| path == format!("{t}.rs") || path.starts_with(&format!("{t}/")))
    };
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut out = Vec::new();
    for (path, (tokens, _)) in parsed {
        let word = |w: &str| tokens.iter().any(|t| t == w);
        let within = |places: &[&str]| places.iter().any(|p| path.starts_with(p));
        if word("unsafe") && !within(MAY_BE_UNSAFE) {
            out.push(format!("{path}: `unsafe` outside {MAY_BE_UNSAFE:?}"));
        }
        if is_test(path) {
            continue;
        }
        if word("rayon") && !within(MAY_NAME_RAYON) {
            out.push(format!("{path}: `rayon` outside {MAY_NAME_RAYON:?}"));
        }
        if path.starts_with("kernels/") {
            if word("heartlore") {
                out.push(format!("{path}: the kernels name the crate above them"));
            }
            continue;
        }
        let module: Vec<String> = path
            .trim_start_matches("src/")
            .trim_end_matches(".rs")
            .split('/')
            .filter(|m| *m != "mod")
            .map(str::to_string)
            .collect();
        let room = module[0].as_str();
        if room == "lib" || room == "main" {
            continue; // the door: it names every room
        }
        let Some(allowed) = allowed.get(room) else {
            out.push(format!("{path}: the room `{room}` is not in the plan; say in ARROWS what it may name"));
            continue;
        };
        for named in rooms_named(&tokens, &module) {
            let common = named == room || (room != "error" && ["error", "kernels"].contains(&named.as_str()));
            if !common && !allowed.contains(&named.as_str()) {
                out.push(format!("{path}: `{room}` names `{named}`"));
            }
        }
    }
    out
}

/// Where files still name each other in a circle; everywhere else none may. What is listed is to be emptied.
const CIRCLES: &[&str] = &[
    // `Real` names the bodies that are compiled once for f32 and f64 (`compiled.rs`), and they are written in it; and mod.rs
    // of an operation holds the page and the sizes, and calls the bodies that take them.
    "kernels/src/",
    // Every command and mod.rs, which has the program on top and what commands share at the bottom.
    "src/cli/",
    // The table, the readers and the data sets; prepare and cut; matlab and hdf.
    "src/data/",
    // The model and its sessions.
    "src/model/",
    // A lock is a file replaced atomically, and a replacement takes the lock.
    "src/checkpoint/atomic.rs",
    "src/checkpoint/lock.rs",
    // Candidate beats and the choice among them.
    "src/signal/rpeak.rs",
    "src/signal/select.rs",
];

/// A file as the circle test reads it.
#[derive(Default)]
struct Module {
    path: String,
    tokens: Vec<String>,
    /// Modules declared here that are files.
    children: BTreeSet<String>,
    /// What it re-exports: name and path.
    exports: BTreeMap<String, Vec<String>>,
    /// Paths it names itself.
    named: Vec<Vec<String>>,
}

/// The module path of a file; the kernels' begin with `kernels`.
fn module_of(path: &str) -> Vec<String> {
    let inner = match path.strip_prefix("kernels/src/") {
        Some(rest) => format!("kernels/{rest}"),
        None => path.trim_start_matches("src/").to_string(),
    };
    let parts = inner.trim_end_matches(".rs").split('/').map(str::to_string);
    parts.filter(|m| !["mod", "lib", "main"].contains(&m.as_str())).collect()
}

/// Every path in a use tree or an expression that begins at `tokens[i]`, and where it ends.
fn paths_from(
    tokens: &[String],
    mut i: usize,
    prefix: &[String],
    out: &mut Vec<(Vec<String>, String)>,
) -> usize {
    let at = |i: usize| tokens.get(i).map_or("", String::as_str);
    let mut path = prefix.to_vec();
    loop {
        if at(i) == "{" {
            i += 1;
            while at(i) != "}" && !at(i).is_empty() {
                i = paths_from(tokens, i, &path, out);
                if at(i) == "," {
                    i += 1;
                }
            }
            return i + 1;
        }
        path.push(at(i).to_string());
        i += 1;
        if at(i) != "::" || at(i + 1) == "<" {
            break;
        }
        i += 1;
    }
    let mut name = path.last().cloned().unwrap_or_default();
    if at(i) == "as" {
        name = at(i + 1).to_string();
        i += 2;
    }
    if path.last().is_some_and(|last| last == "self") {
        path.pop();
        name = path.last().cloned().unwrap_or_default();
    }
    out.push((path, name));
    i
}

/// A path from its crate's root on, or `None` if it leads out of the crate.
fn absolute(path: &[String], module: &[String], children: &BTreeSet<String>) -> Option<Vec<String>> {
    let root =
        || if module.first().is_some_and(|m| m == "kernels") { vec!["kernels".into()] } else { vec![] };
    let mut base = match path.first()?.as_str() {
        "crate" | "heartlore" => root(),
        "self" => module.to_vec(),
        "super" => module[..module.len().checked_sub(1)?].to_vec(),
        child if children.contains(child) => [module, &[child.to_string()]].concat(),
        _ => return None,
    };
    for step in &path[1..] {
        if step == "super" {
            base.pop();
        } else {
            base.push(step.clone());
        }
    }
    Some(base)
}

fn read_module(path: &str, tokens: Vec<String>, known: &BTreeSet<Vec<String>>) -> Module {
    let module = module_of(path);
    let mut m = Module { path: path.into(), tokens, ..Module::default() };
    let word = |i: usize| m.tokens.get(i).map_or("", String::as_str);
    for i in 0..m.tokens.len() {
        let child = [&module[..], &[word(i + 1).to_string()]].concat();
        if word(i) == "mod" && word(i + 2) == ";" && known.contains(&child) {
            m.children.insert(word(i + 1).to_string());
        }
    }
    let (mut i, mut public) = (0, false);
    while i < m.tokens.len() {
        let token = word(i);
        let begins = |w: &str| ["crate", "heartlore", "super", "self"].contains(&w) || m.children.contains(w);
        let mut found = Vec::new();
        if token == "pub" {
            public = true;
            i += 1;
            // Not the path in `pub(in crate::graph)`.
            if word(i) == "(" {
                i += m.tokens[i..].iter().position(|t| t == ")").map_or(0, |n| n + 1);
            }
            continue;
        }
        let next = if token == "use" {
            paths_from(&m.tokens, i + 1, &[], &mut found)
        } else if begins(token) && word(i + 1) == "::" && (i == 0 || word(i - 1) != "::") {
            paths_from(&m.tokens, i, &[], &mut found)
        } else {
            public = false;
            i += 1;
            continue;
        };
        for (path, name) in found {
            let Some(path) = absolute(&path, &module, &m.children) else { continue };
            if public && token == "use" {
                m.exports.insert(name, path);
            } else {
                m.named.push(path);
            }
        }
        public = false;
        i = next.max(i + 1);
    }
    m
}

/// The file that defines what `path` names: the deepest module on it, or where that re-exports it from.
fn defined_in<'a>(
    path: &[String],
    modules: &'a BTreeMap<Vec<String>, Module>,
    depth: usize,
) -> Option<&'a Vec<String>> {
    let (module, file) = (1..=path.len()).rev().find_map(|n| modules.get_key_value(&path[..n]))?;
    let export = path.get(module.len()).and_then(|name| file.exports.get(name));
    match export {
        Some(export) if depth < 8 => {
            let rest = &path[module.len() + 1..];
            defined_in(&[&export[..], rest].concat(), modules, depth + 1)
        }
        _ => Some(module),
    }
}

/// Every circle of files inside a room, as sorted paths.
fn circles(files: &BTreeMap<String, String>) -> Vec<Vec<String>> {
    let mut test_only = BTreeSet::new();
    let mut read = Vec::new();
    for (path, source) in files {
        let (tokens, tests) = without_tests(&tokens(&bare(source)));
        let module = module_of(path);
        test_only.extend(tests.into_iter().map(|t| [&module[..], &[t]].concat()));
        read.push((path, module, tokens));
    }
    read.retain(|(_, module, _)| !module.is_empty() && !test_only.iter().any(|t| module.starts_with(t)));
    let known: BTreeSet<Vec<String>> = read.iter().map(|(_, module, _)| module.clone()).collect();
    let modules: BTreeMap<Vec<String>, Module> =
        read.into_iter().map(|(path, module, tokens)| (module, read_module(path, tokens, &known))).collect();
    let room = |m: &[String]| m[0].clone();
    let arrows: BTreeMap<&Vec<String>, BTreeSet<&Vec<String>>> = modules
        .iter()
        .map(|(module, file)| {
            let to = file.named.iter().filter_map(|path| defined_in(path, &modules, 0));
            (module, to.filter(|to| *to != module && room(to) == room(module)).collect())
        })
        .collect();
    let reachable = |from: &Vec<String>| {
        let (mut seen, mut open) = (BTreeSet::new(), arrows[from].clone());
        while let Some(next) = open.pop_first() {
            if seen.insert(next) {
                open.extend(&arrows[next]);
            }
        }
        seen
    };
    let reach: BTreeMap<&Vec<String>, BTreeSet<&Vec<String>>> =
        modules.keys().map(|m| (m, reachable(m))).collect();
    let mut out = BTreeSet::new();
    for m in modules.keys() {
        let circle: BTreeSet<&Vec<String>> =
            reach[m].iter().copied().filter(|other| reach[*other].contains(m)).collect();
        if circle.contains(m) {
            out.insert(circle.iter().map(|m| modules[*m].path.clone()).collect::<Vec<_>>());
        }
    }
    out.into_iter().collect()
}

fn collect(root: &Path, folder: PathBuf, files: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let name = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
            files.insert(name, std::fs::read_to_string(&path).unwrap());
        }
    }
}

fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = BTreeMap::new();
    collect(root, root.join("src"), &mut files);
    collect(root, root.join("kernels/src"), &mut files);
    files
}

#[test]
fn no_arrow_runs_backwards() {
    let files = sources();
    assert!(files.len() > 50, "only {} files found", files.len());
    let found = complaints(&files);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_plan_of_arrows_has_no_cycle() {
    for (i, (room, may_name)) in ARROWS.iter().enumerate() {
        for named in *may_name {
            let at = ARROWS.iter().position(|(r, _)| r == named);
            assert!(at.is_some_and(|at| at < i), "{room} may name {named}, which does not stand below it");
        }
    }
}

#[test]
fn no_circle_of_files() {
    let found = circles(&sources());
    let new: Vec<String> = found
        .iter()
        .filter(|circle| circle.iter().any(|path| !CIRCLES.iter().any(|listed| path.starts_with(listed))))
        .map(|circle| circle.join(" "))
        .collect();
    assert!(new.is_empty(), "circles of files:\n{}", new.join("\n"));
    let gone: Vec<&&str> = CIRCLES
        .iter()
        .filter(|listed| !found.iter().flatten().any(|path| path.starts_with(**listed)))
        .collect();
    assert!(gone.is_empty(), "no circle any more, take them off the list: {gone:?}");
}

#[test]
fn a_planted_circle_is_found() {
    let mut clean = sources();
    clean.retain(|path, _| path.starts_with("src/graph/"));
    let known = circles(&clean);
    assert!(known.is_empty() && clean.len() > 40, "{known:?}");
    // By name, through a re-export, by a path in an expression, and through a third file.
    for (ground, planted) in [
        ("id.rs", "use super::plan::Plan;"),
        ("views.rs", "use crate::graph::{Exec, Id};"),
        ("step.rs", "fn f(g: &crate::graph::builder::Graph) {}"),
        ("operation.rs", "use super::ops::Linear;"),
        ("ops/linear.rs", "use super::OpKind;"),
    ] {
        let path = format!("src/graph/{ground}");
        let mut files = clean.clone();
        let source = files.get_mut(&path).unwrap();
        source.push_str(planted);
        let found = circles(&files);
        let new: Vec<_> = found.iter().filter(|c| !known.contains(c)).collect();
        assert!(new.iter().any(|c| c.contains(&path)), "{path}: {planted}: {new:?}");
    }
    // A parent that re-exports its children is a facade, not a part of a circle; one that uses them is.
    let two = |parent: &str, child: &str| {
        let file = |path: &str, source: &str| (path.to_string(), source.to_string());
        circles(&[file("src/a/mod.rs", parent), file("src/a/b.rs", child)].into())
    };
    let child = "use super::Size; pub struct B(Size);";
    assert!(two("mod b; pub use b::B; pub struct Size;", child).is_empty());
    assert_eq!(two("mod b; use b::B; pub struct Size; fn f(b: B) {}", child).len(), 1);
    assert_eq!(two("mod b; pub struct Size; fn f() { b::g(); }", child).len(), 1);
    assert!(
        two("mod b; use b::B; fn f(b: B) {}", "pub struct B; #[cfg(test)] mod t { use super::super::f; }")
            .is_empty()
    );
}

#[test]
fn a_planted_fault_is_found() {
    let clean = sources();
    let found = |path: &str, source: &str| {
        let mut files = clean.clone();
        files.insert(path.into(), source.into());
        complaints(&files)
    };
    for (path, source, expected) in [
        ("src/graph/planted.rs", "use crate::nn::Encoder;", "`graph` names `nn`"),
        (
            "src/tensor/planted.rs",
            "use crate::{Error, error::Kind, graph::{Plan, Exec}};",
            "`tensor` names `graph`",
        ),
        ("src/tensor/a/planted.rs", "use super::super::super::graph::Plan;", "`tensor` names `graph`"),
        ("src/signal/planted.rs", "fn f() { let x = crate::graph::Graph::new(); }", "`signal` names `graph`"),
        ("src/data/planted.rs", "use crate\n    ::train::run;", "`data` names `train`"),
        ("src/checkpoint/planted.rs", "pub fn f(p: &crate::graph::Layout) {}", "`checkpoint` names `graph`"),
        ("src/metrics/planted.rs", "use rayon::prelude::*;", "`rayon` outside"),
        ("src/attic/planted.rs", "fn f() {}", "not in the plan"),
        ("src/nn/planted.rs", "fn f() { unsafe {} }", "`unsafe` outside"),
        ("kernels/src/planted.rs", "use heartlore::tensor::Tensor;", "the crate above"),
        ("kernels/src/softmax/planted.rs", "unsafe fn f() {}", "`unsafe` outside"),
    ] {
        let found = found(path, source);
        assert!(found.iter().any(|f| f.starts_with(path) && f.contains(expected)), "{path}: {found:?}");
        assert_eq!(found.len(), complaints(&clean).len() + 1, "{path}: {found:?}");
    }
}

#[test]
fn words_that_are_no_arrows_are_passed_over() {
    let mut files = sources();
    let source = r##"
        //! [`crate::graph`] in documentation, unsafe in prose.
        /* use crate::graph; /* nested */ use crate::train; */
        use super::Shape;
        const S: &str = "use crate::graph; \" unsafe";
        const R: &str = r#"crate::nn " rayon"#;
        const C: [char; 3] = ['"', '\'', '\u{41}'];
        fn f<'a>(x: &'a str) -> crate::Result<&'a str> { Ok(x) }
        #[cfg(test)]
        mod tests { use crate::graph::Graph; mod inner {} }
        #[cfg(test)]
        mod oracle;
    "##;
    files.insert("src/tensor/planted.rs".into(), source.into());
    files.insert("src/tensor/planted/oracle.rs".into(), "use crate::graph::Graph;".into());
    assert_eq!(complaints(&files), complaints(&sources()));
}
