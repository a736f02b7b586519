//! One HTML5 file: title, notices, key figures, sections, provenance. No script, no external resource; every text is
//! escaped, and pictures can only be [`Svg`]s made by this crate.

use std::fmt::Write as _;
use std::path::Path;

use super::style::PAGE_CSS;
use super::svg::{Svg, escape};
use crate::error::Result;

/// How loud a notice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// Good to know.
    Info,
    /// Changes what the figures mean: "window-level folds leak".
    Warning,
    /// The data are simulated.
    Simulated,
}

/// A key figure.
#[derive(Clone, Debug)]
pub struct Tile {
    label: String,
    value: String,
    detail: String,
}

impl Tile {
    /// `label` above `value` (with unit), `detail` below; `detail` may be empty.
    pub fn new(label: impl Into<String>, value: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { label: label.into(), value: value.into(), detail: detail.into() }
    }
}

/// A picture with its caption.
#[derive(Clone, Debug)]
pub struct Figure {
    svg: Svg,
    caption: String,
}

impl Figure {
    /// The picture and what the reader should see in it.
    pub fn new(svg: Svg, caption: impl Into<String>) -> Self {
        Self { svg, caption: caption.into() }
    }
}

/// How a table column is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A table with caption.
#[derive(Clone, Debug)]
pub struct Table {
    caption: String,
    columns: Vec<(String, Align)>,
    rows: Vec<(Vec<String>, bool)>,
}

impl Table {
    /// An empty table.
    pub fn new(caption: impl Into<String>) -> Self {
        Self { caption: caption.into(), columns: Vec::new(), rows: Vec::new() }
    }
    /// Adds a column.
    #[must_use]
    pub fn column(mut self, name: impl Into<String>, align: Align) -> Self {
        self.columns.push((name.into(), align));
        self
    }
    /// Adds a row. Missing cells stay empty; cells beyond the columns get a column without a name.
    #[must_use]
    pub fn row<S: Into<String>>(mut self, cells: impl IntoIterator<Item = S>) -> Self {
        self.rows.push((cells.into_iter().map(Into::into).collect(), false));
        self
    }
    /// Adds a row in bold.
    #[must_use]
    pub fn highlighted_row<S: Into<String>>(mut self, cells: impl IntoIterator<Item = S>) -> Self {
        self.rows.push((cells.into_iter().map(Into::into).collect(), true));
        self
    }
}

#[derive(Clone, Debug)]
enum Block {
    Heading(String),
    Paragraph(String),
    Notice(NoticeKind, String, String),
    Tiles(Vec<Tile>),
    Figure(Figure),
    Table(Table),
    Code(String),
}

/// A section with a heading, listed in the table of contents.
#[derive(Clone, Debug)]
pub struct Section {
    title: String,
    blocks: Vec<Block>,
}

impl Section {
    /// An empty section.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), blocks: Vec::new() }
    }
    /// Adds a smaller heading.
    #[must_use]
    pub fn heading(mut self, text: impl Into<String>) -> Self {
        self.blocks.push(Block::Heading(text.into()));
        self
    }
    /// Adds a paragraph.
    #[must_use]
    pub fn paragraph(mut self, text: impl Into<String>) -> Self {
        self.blocks.push(Block::Paragraph(text.into()));
        self
    }
    /// Adds a notice.
    #[must_use]
    pub fn notice(mut self, kind: NoticeKind, title: impl Into<String>, text: impl Into<String>) -> Self {
        self.blocks.push(Block::Notice(kind, title.into(), text.into()));
        self
    }
    /// Adds a row of key figures.
    #[must_use]
    pub fn tiles(mut self, tiles: impl IntoIterator<Item = Tile>) -> Self {
        self.blocks.push(Block::Tiles(tiles.into_iter().collect()));
        self
    }
    /// Adds a picture.
    #[must_use]
    pub fn figure(mut self, figure: Figure) -> Self {
        self.blocks.push(Block::Figure(figure));
        self
    }
    /// Adds a table.
    #[must_use]
    pub fn table(mut self, table: Table) -> Self {
        self.blocks.push(Block::Table(table));
        self
    }
    /// Adds preformatted text: a command, a configuration.
    #[must_use]
    pub fn code(mut self, text: impl Into<String>) -> Self {
        self.blocks.push(Block::Code(text.into()));
        self
    }
}

/// How the report came about. Empty fields are left out.
#[derive(Clone, Debug, Default)]
pub struct Provenance {
    /// The command as typed.
    pub command_line: String,
    /// Program version, with commit if known.
    pub version: String,
    /// Seed of the run.
    pub seed: Option<u64>,
    /// Date and time of the start, as text.
    pub started: String,
    /// Wall time in seconds.
    pub wall_s: Option<f64>,
    /// Largest resident memory in bytes.
    pub peak_memory_bytes: Option<u64>,
    /// `(data file or set, checksum with its kind)`.
    pub data_checksums: Vec<(String, String)>,
    /// Anything else: machine, number of threads, configuration file.
    pub extra: Vec<(String, String)>,
}

/// The report. Sections appear in the order they are added, key figures and notices of the whole report on top.
#[derive(Clone, Debug)]
pub struct Report {
    title: String,
    subtitle: String,
    top: Vec<Block>,
    sections: Vec<Section>,
    provenance: Option<Provenance>,
}

impl Report {
    /// An empty report.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), subtitle: String::new(), top: vec![], sections: vec![], provenance: None }
    }
    /// One line below the title.
    #[must_use]
    pub fn subtitle(mut self, text: impl Into<String>) -> Self {
        self.subtitle = text.into();
        self
    }
    /// A notice above everything else.
    #[must_use]
    pub fn notice(mut self, kind: NoticeKind, title: impl Into<String>, text: impl Into<String>) -> Self {
        self.top.push(Block::Notice(kind, title.into(), text.into()));
        self
    }
    /// Key figures above the table of contents.
    #[must_use]
    pub fn tiles(mut self, tiles: impl IntoIterator<Item = Tile>) -> Self {
        self.top.push(Block::Tiles(tiles.into_iter().collect()));
        self
    }
    /// Adds a section.
    #[must_use]
    pub fn section(mut self, section: Section) -> Self {
        self.sections.push(section);
        self
    }
    /// Sets the footer.
    #[must_use]
    pub fn provenance(mut self, provenance: Provenance) -> Self {
        self.provenance = Some(provenance);
        self
    }
    /// The whole file.
    pub fn render(&self) -> String {
        let mut o = String::with_capacity(64 * 1024);
        let title = if self.title.trim().is_empty() { "Report".into() } else { escape(&self.title) };
        let _ = write!(
            o,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"generator\" content=\"heartlore\">\n\
             <title>{title}</title>\n<style>{PAGE_CSS}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n"
        );
        if !self.subtitle.is_empty() {
            let _ = writeln!(o, "<p class=\"subtitle\">{}</p>", escape(&self.subtitle));
        }
        let mut count = Count::default();
        for block in &self.top {
            count.block(&mut o, block);
        }
        let has_footer = self.provenance.is_some();
        if self.sections.len() + usize::from(has_footer) > 1 {
            o.push_str("<nav aria-label=\"Contents\">\n<strong>Contents</strong>\n<ol>\n");
            for (i, s) in self.sections.iter().enumerate() {
                let _ = writeln!(o, "<li><a href=\"#s{}\">{}</a></li>", i + 1, escape(&s.title));
            }
            if has_footer {
                o.push_str("<li><a href=\"#provenance\">Provenance</a></li>\n");
            }
            o.push_str("</ol>\n</nav>\n");
        }
        o.push_str("</header>\n<main>\n");
        for (i, s) in self.sections.iter().enumerate() {
            let _ = write!(o, "<section id=\"s{}\">\n<h2>{}</h2>\n", i + 1, escape(&s.title));
            for block in &s.blocks {
                count.block(&mut o, block);
            }
            o.push_str("</section>\n");
        }
        o.push_str("</main>\n");
        if let Some(p) = &self.provenance {
            footer(&mut o, p);
        }
        o.push_str("</body>\n</html>\n");
        o
    }
    /// Renders into `path`.
    ///
    /// # Errors
    /// [`Kind::Io`](crate::error::Kind::Io) when the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        crate::checkpoint::write_bytes(path, self.render().as_bytes())
    }
}

/// Numbers figures and tables in reading order.
#[derive(Default)]
struct Count {
    figures: usize,
    tables: usize,
}

impl Count {
    fn block(&mut self, o: &mut String, block: &Block) {
        match block {
            Block::Heading(t) => {
                let _ = writeln!(o, "<h3>{}</h3>", escape(t));
            }
            Block::Paragraph(t) => {
                let _ = writeln!(o, "<p>{}</p>", escape(t));
            }
            Block::Notice(kind, title, text) => {
                let class = match kind {
                    NoticeKind::Info => "info",
                    NoticeKind::Warning => "warning",
                    NoticeKind::Simulated => "simulated",
                };
                let _ = write!(
                    o,
                    "<div class=\"notice {class}\" role=\"note\">\n<strong>{}</strong>\n<p>{}</p>\n</div>\n",
                    escape(title),
                    escape(text)
                );
            }
            Block::Tiles(tiles) if tiles.is_empty() => {}
            Block::Tiles(tiles) => {
                o.push_str("<dl class=\"tiles\">\n");
                for t in tiles {
                    let _ = write!(
                        o,
                        "<div class=\"tile\"><dt>{}</dt><dd class=\"value\">{}</dd>",
                        escape(&t.label),
                        escape(&t.value)
                    );
                    if !t.detail.is_empty() {
                        let _ = write!(o, "<dd class=\"detail\">{}</dd>", escape(&t.detail));
                    }
                    o.push_str("</div>\n");
                }
                o.push_str("</dl>\n");
            }
            Block::Figure(f) => {
                self.figures += 1;
                let _ = write!(
                    o,
                    "<figure>\n<div class=\"scroll\">\n{}</div>\n<figcaption><b>Figure {}.</b> {}</figcaption>\n</figure>\n",
                    f.svg,
                    self.figures,
                    escape(&f.caption)
                );
            }
            Block::Table(t) => {
                self.tables += 1;
                table(o, t, self.tables);
            }
            Block::Code(t) => {
                let _ = writeln!(o, "<pre><code>{}</code></pre>", escape(t));
            }
        }
    }
}

fn table(o: &mut String, t: &Table, number: usize) {
    let columns = t.rows.iter().map(|r| r.0.len()).max().unwrap_or(0).max(t.columns.len()).max(1);
    let align = |i: usize| match t.columns.get(i) {
        Some((_, Align::Right)) => " class=\"r\"",
        _ => "",
    };
    let _ = write!(
        o,
        "<div class=\"table\">\n<table>\n<caption><b>Table {number}.</b> {}</caption>\n<thead>\n<tr>",
        escape(&t.caption)
    );
    for i in 0..columns {
        let name = t.columns.get(i).map_or(String::new(), |c| escape(&c.0));
        let _ = write!(o, "<th scope=\"col\"{}>{name}</th>", align(i));
    }
    o.push_str("</tr>\n</thead>\n<tbody>\n");
    for (cells, bold) in &t.rows {
        o.push_str(if *bold { "<tr class=\"hl\">" } else { "<tr>" });
        for i in 0..columns {
            let cell = cells.get(i).map_or(String::new(), |c| escape(c));
            if i == 0 {
                let _ = write!(o, "<th scope=\"row\"{}>{cell}</th>", align(i));
            } else {
                let _ = write!(o, "<td{}>{cell}</td>", align(i));
            }
        }
        o.push_str("</tr>\n");
    }
    if t.rows.is_empty() {
        let _ = writeln!(o, "<tr><td colspan=\"{columns}\">No rows.</td></tr>");
    }
    o.push_str("</tbody>\n</table>\n</div>\n");
}

fn footer(o: &mut String, p: &Provenance) {
    o.push_str("<footer id=\"provenance\">\n<h2>Provenance</h2>\n");
    let mut items: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: String| items.push((name.to_string(), value));
    if !p.command_line.is_empty() {
        add("Command", p.command_line.clone());
    }
    if !p.version.is_empty() {
        add("Version", p.version.clone());
    }
    if let Some(seed) = p.seed {
        add("Seed", seed.to_string());
    }
    if !p.started.is_empty() {
        add("Started", p.started.clone());
    }
    if let Some(t) = p.wall_s.filter(|t| t.is_finite()) {
        let clock = if t >= 60.0 { format!(" ({} min:s)", super::scale::clock(t)) } else { String::new() };
        add("Wall time", format!("{t:.1} s{clock}"));
    }
    if let Some(bytes) = p.peak_memory_bytes {
        add("Peak memory", format!("{:.1} MB", bytes as f64 / 1e6));
    }
    for (name, value) in p.extra.iter() {
        add(name, value.clone());
    }
    for (name, sum) in &p.data_checksums {
        add("Data", format!("{name}: {sum}"));
    }
    if items.is_empty() {
        o.push_str("<p>Nothing recorded.</p>\n");
    } else {
        o.push_str("<dl>\n");
        for (name, value) in items {
            let mono = if matches!(name.as_str(), "Command" | "Data") { " class=\"mono\"" } else { "" };
            let _ = writeln!(o, "<dt>{}</dt><dd{mono}>{}</dd>", escape(&name), escape(&value));
        }
        o.push_str("</dl>\n");
    }
    o.push_str("</footer>\n");
}
