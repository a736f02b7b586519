//! `heartlore evaluate`: predictions beside baselines, with intervals over people.

use std::path::{Path, PathBuf};

use crate::checkpoint::write_bytes;
use crate::cli::pretrain::is_simulated;
use crate::cli::rundir::{self, curves, provenance};
use crate::cli::{Context, reports, simulate};
use crate::data::names::{class_key, is_missing, obvious_class};
use crate::data::store::Store;
use crate::error::{Error, IoContext, Result};
use crate::evaluate::{
    self as evaluation, Baseline, Evaluation, FoldRows, Mark, Metric, Predictions, Settings, Study,
    fit_baselines, statements,
};
use crate::model::InitProvenance;
use crate::report::{NoticeKind, Report, Tile};

const EXAMPLES: &str = "\
Examples:
  heartlore evaluate runs/fine
  heartlore evaluate predictions.csv --out evaluation
  heartlore evaluate runs/fine --resamples 10000 --json

predictions.csv needs the columns subject, label (1 and 0, True and False, 1.0 and 0.0, or names) and probability. Beside report.html and metrics.json there will be
evaluate.toml with every flag as it was in force; --config takes it back. It is not called config.toml because a run
directory has one already, of finetune.";

/// Name of the configuration it leaves.
pub const FILE: &str = "evaluate.toml";

/// Flags of `evaluate`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Run directory of `finetune`, or a CSV with predictions
    pub input: PathBuf,
    /// Directory for report.html, metrics.json and evaluate.toml [default: the run directory, or the CSV's]
    #[arg(long, short)]
    pub out: Option<PathBuf>,
    /// Prepared store of the run, if it was moved
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Fit the baselines (a run directory only)
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub baselines: bool,
    /// A probability of at least this counts as positive
    #[arg(long, default_value_t = 0.5)]
    pub threshold: f64,
    /// Resamples of the bootstrap over people
    #[arg(long, default_value_t = 2000, value_parser = super::options::resamples)]
    pub resamples: usize,
    /// Level of the intervals
    #[arg(long, default_value_t = 0.95)]
    pub level: f64,
    /// Seed of the bootstrap
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Value of the column label that is the positive class, for a CSV [default: that of an obvious pair, such as 1 of 1/0
    /// or true of true/false, or --positive-name if the labels are the two names]
    #[arg(long)]
    pub positive: Option<String>,
    /// What to call the positive class, for a CSV
    #[arg(long, default_value = "positive")]
    pub positive_name: String,
    /// What to call the negative class, for a CSV
    #[arg(long, default_value = "negative")]
    pub negative_name: String,
    /// Configuration file with any of these flags as keys
    #[arg(long)]
    pub config: Option<PathBuf>,
}

/// How the folds of a run were made: `split.json`.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitFile {
    /// The protocol in words.
    pub protocol: String,
    /// Whether windows of one recording lie on both sides.
    pub leaks: bool,
    /// What a reader must know.
    pub warnings: Vec<String>,
    /// Seed of the split.
    pub seed: u64,
    /// Label column and rule.
    pub label: String,
    /// Name of the positive class.
    pub positive: String,
    /// Name of the negative class.
    pub negative: String,
    /// The store.
    pub store: PathBuf,
    /// Its checksums.
    pub fingerprint: String,
    /// Training parts.
    pub folds: Vec<FoldRows>,
    /// Where the weights came from; `None` in runs of earlier versions.
    #[serde(default)]
    pub start: Option<InitProvenance>,
}

/// Says in an evaluation whether people who are tested had been seen in pre-training.
pub(crate) fn report_init_provenance(judged: &mut Evaluation, split: &SplitFile) {
    let Some(start) = &split.start else { return };
    if let Some(sentence) = start.label_leak() {
        judged.mark(Mark { short: "LEAK: labels seen before".into(), sentence });
    }
    let (sentence, is_warning) = start.sentence();
    judged.say(sentence, is_warning);
}

/// Judges and writes the report.
///
/// # Errors
/// Files that are missing or no predictions; a store that is not the run's.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let is_run = args.input.is_dir();
    let table = if is_run { args.input.join("predictions.csv") } else { args.input.clone() };
    if is_run && !table.is_file() {
        return Err(Error::data("the directory holds no predictions.csv")
            .in_file(&args.input)
            .remedy("give the run directory of a finished `heartlore finetune`, or a CSV"));
    }
    let names = (args.positive_name.as_str(), args.negative_name.as_str());
    let (p, unlabelled) = read_predictions(&table, args.positive.as_deref(), names)?;
    if unlabelled > 0 {
        context.note(format!("{unlabelled} lines have no label; they are left out"));
    }
    let mut settings = Settings {
        threshold: args.threshold,
        resamples: args.resamples,
        level: args.level,
        seed: args.seed,
        positive: args.positive_name.clone(),
        negative: args.negative_name.clone(),
        protocol: "not known (the predictions come from a CSV)".into(),
        leaks: false,
    };
    let fallback =
        || table.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_path_buf();
    let out = args.out.clone().unwrap_or_else(fallback);
    let _lock = rundir::lock(&out, context)?;
    let (judged, store) = if is_run {
        let split = read_split(&args.input)?;
        if args.baselines && split.protocol.contains("the person's own") {
            context.warn(
                "the run's probe reads a reference of each person; the baselines fitted here read windows alone. Those with the \
                 same reference are in the run's own report",
            );
        }
        let dir = args.data.clone().unwrap_or_else(|| split.store.clone());
        (settings.positive, settings.negative) = (split.positive.clone(), split.negative.clone());
        (settings.protocol, settings.leaks) = (split.protocol.clone(), split.leaks);
        let store = if args.baselines { Some(open_of_run(&dir, &split)?) } else { Store::open(&dir).ok() };
        let beside = store.as_ref().filter(|_| args.baselines);
        let mut judged = beside_baselines(&p, beside, &split.folds, &settings)?;
        report_init_provenance(&mut judged, &split);
        report_split(&mut judged, &split);
        (judged, store)
    } else {
        (evaluation::evaluate(&p, &[], &settings)?, None)
    };
    context.config.borrow_mut().set("out", out.to_string_lossy().into_owned())?;
    context.write_config(&out, FILE)?;
    write(&judged, &out, is_run.then_some(args.input.as_path()), store.as_ref(), context)?;
    let text = format!("{}  report {}\n", judged.text(), out.join("report.html").display());
    context.result(&text, || judged.json())
}

/// The store of a run, if it is still the one the run was made with.
pub(crate) fn open_of_run(dir: &Path, split: &SplitFile) -> Result<Store> {
    let store = Store::open(dir).map_err(|e| {
        e.remedy("say where the store is with --data, or leave baselines out with --baselines=false")
    })?;
    let have = crate::cli::pretrain::fingerprint(&store);
    if have != split.fingerprint {
        return Err(Error::data(format!(
            "the store is not the run's: checksums are {have}, the run has {}",
            split.fingerprint
        ))
        .in_file(dir)
        .remedy("give the store the run was made with by --data"));
    }
    Ok(store)
}

/// Evaluates predictions, with `store` beside the baselines fitted in the same folds.
///
/// # Errors
/// As [`evaluation::evaluate`] and [`fit_baselines`].
pub(crate) fn beside_baselines(
    p: &Predictions,
    store: Option<&Store>,
    folds: &[FoldRows],
    settings: &Settings,
) -> Result<Evaluation> {
    let others = match store {
        None => Vec::new(),
        Some(store) => {
            let study = Study {
                source: store,
                fs_hz: store.manifest().processing.rate_hz,
                folds,
                person: store.index().split_keys().subject,
            };
            fit_baselines(&Baseline::standard(), p, &study)?
        }
    };
    evaluation::evaluate(p, &others, settings)
}

/// Most warnings of the split that are repeated in an evaluation.
const SPLIT_WARNINGS: usize = 5;

/// Says in an evaluation what is to be known of the folds; that they leak is a mark already.
pub(crate) fn report_split(judged: &mut Evaluation, split: &SplitFile) {
    let of_folds: Vec<&String> =
        split.warnings.iter().filter(|w| !split.leaks || !w.contains("LEAKS")).collect();
    for warning in of_folds.iter().take(SPLIT_WARNINGS) {
        judged.say(warning.as_str(), false);
    }
    if of_folds.len() > SPLIT_WARNINGS {
        let more = of_folds.len() - SPLIT_WARNINGS;
        judged.say(
            format!("split.json has {more} more such {}.", if more == 1 { "note" } else { "notes" }),
            false,
        );
    }
}

/// Writes `metrics.json` and `report.html`.
///
/// # Errors
/// A failing disk.
pub(crate) fn write(
    judged: &Evaluation,
    out: &Path,
    run: Option<&Path>,
    store: Option<&Store>,
    context: &Context,
) -> Result<()> {
    write_bytes(out.join("metrics.json"), format!("{:#}\n", judged.json()).as_bytes())?;
    let mut report = Report::new(format!("{} or {}", judged.positive, judged.negative))
        .subtitle("How well windows of ECG tell the two states apart");
    for mark in &judged.marks {
        report = report.notice(NoticeKind::Warning, &mark.short, &mark.sentence);
    }
    if store.is_some_and(is_simulated) {
        report = report.notice(NoticeKind::Simulated, "Simulated data", simulate::NOTE);
    }
    report = report.tiles(tiles(judged)).section(reports::evaluation(judged));
    if let Some(run) = run
        && run.join("metrics.csv").is_file()
    {
        report = report.section(reports::training("Training", "binary cross-entropy", &curves(run)?, None));
    }
    report.provenance(provenance(context, store)).save(out.join("report.html"))
}

/// The key figures of the model.
pub(crate) fn tiles(judged: &Evaluation) -> Vec<Tile> {
    let Some(model) = judged.methods.first() else { return Vec::new() };
    [Metric::BalancedAccuracy, Metric::MacroF1, Metric::Auc]
        .into_iter()
        .filter_map(|m| model.score(m))
        .map(|s| {
            let name = statements::capitalised(s.metric.name());
            let value = s.estimate.map_or("undefined".into(), |v| format!("{v:.2}"));
            let detail = match (s.estimate, s.interval) {
                (None, _) => String::new(),
                (_, None) => "no interval".into(),
                (_, Some(i)) => {
                    format!("{:.2} to {:.2}, {:.0} % over people", i.low, i.high, 100.0 * i.level)
                }
            };
            Tile::new(judged.marked(&name), value, detail)
        })
        .collect()
}

/// Reads `split.json` of a run.
///
/// # Errors
/// Missing or damaged.
pub(crate) fn read_split(run: &Path) -> Result<SplitFile> {
    let path = run.join("split.json");
    let bytes = std::fs::read(&path).with_file(&path)?;
    serde_json::from_slice(&bytes).map_err(|e| {
        Error::format(e.to_string()).in_file(&path).remedy("the file is damaged; run finetune again")
    })
}

/// Reads a table of predictions: columns `subject`, `label`, `probability`, and optionally `row`, `dataset`, `fold`.
///
/// # Errors
/// Missing columns (those there are are named), values that are no labels or probabilities, each with its line; labels that
/// do not say which is the positive class.
///
/// Returns also how many lines have no label and were left out.
pub(crate) fn read_predictions(
    path: &Path,
    positive: Option<&str>,
    names: (&str, &str),
) -> Result<(Predictions, usize)> {
    let file = std::fs::File::open(path).with_file(path)?;
    let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).trim(csv::Trim::All).from_reader(file);
    let bad = |e: csv::Error| {
        let line = e.position().map_or(0, |p| p.line());
        Error::format(e.to_string()).in_file(path).at(format!("line {line}"))
    };
    let header = reader.headers().map_err(bad)?.clone();
    let column = |name: &str| header.iter().position(|h| h == name);
    let need = |name: &str| {
        column(name).ok_or_else(|| {
            let have: Vec<&str> = header.iter().collect();
            Error::format(format!("there is no column '{name}'; the columns are {}", have.join(", ")))
                .in_file(path)
                .at("line 1")
                .remedy("the table needs subject, label and probability")
        })
    };
    let (subject, label, probability) = (need("subject")?, need("label")?, need("probability")?);
    let (row, dataset, fold) = (column("row"), column("dataset"), column("fold"));
    let mut p = Predictions::default();
    let mut labels = Vec::new();
    let mut unlabelled = 0;
    for record in reader.records() {
        let r = record.map_err(bad)?;
        let line = r.position().map_or(0, |p| p.line());
        let field = |c: usize| r.get(c).unwrap_or("");
        let wrong = |c: usize, what: String| {
            Error::format(what).in_file(path).at(format!("line {line}, column '{}'", &header[c]))
        };
        if is_missing(field(label)) {
            unlabelled += 1;
            continue;
        }
        labels.push((class_key(field(label)), field(label).to_string(), line));
        let text = field(probability);
        let value = text.parse::<f64>().ok().filter(|v| (0.0..=1.0).contains(v));
        p.probability.push(
            value.ok_or_else(|| wrong(probability, format!("'{text}' is no probability from 0 to 1")))?,
        );
        if field(subject).is_empty() {
            return Err(wrong(subject, "empty; intervals are over people".into()));
        }
        // Person 1 of one data set is not person 1 of another.
        p.subject.push(match dataset.map(field).filter(|d| !d.is_empty()) {
            Some(d) => format!("{d}/{}", field(subject)),
            None => field(subject).to_string(),
        });
        p.row.push(row.and_then(|c| field(c).parse().ok()));
        let number = fold
            .map(|c| field(c).parse::<usize>().map_err(|_| wrong(c, format!("'{}' is no fold", field(c)))));
        p.fold.push(number.transpose()?.unwrap_or(0));
    }
    if labels.is_empty() {
        return Err(Error::data(match unlabelled {
            0 => "the table holds no predictions".to_string(),
            n => format!("none of {n} lines has a label"),
        })
        .in_file(path));
    }
    p.label = classes(&labels, positive, names).map_err(|e| e.in_file(path))?;
    Ok((p, unlabelled))
}

/// Which labels (key, text, line) are of the positive class.
fn classes(
    labels: &[(String, String, u64)],
    positive: Option<&str>,
    names: (&str, &str),
) -> Result<Vec<bool>> {
    let mut two: Vec<&(String, String, u64)> = Vec::new();
    for label in labels {
        if !two.iter().any(|l| l.0 == label.0) {
            two.push(label);
        }
    }
    let place = |l: &(String, String, u64)| format!("line {}, column 'label'", l.2);
    if let [a, b, c, ..] = two[..] {
        return Err(Error::format(format!("'{}' is no label beside '{}' and '{}'", c.1, a.1, b.1))
            .at(place(c))
            .remedy("two classes are needed; use 0 and 1"));
    }
    let (first, second) = (&two[0].0, two.get(1).map(|l| l.0.as_str()));
    let names = (class_key(names.0), class_key(names.1));
    let is_name = |key: &str| key == names.0 || key == names.1;
    let positive = match positive.map(class_key) {
        Some(key) if two.iter().any(|l| l.0 == key) => key,
        Some(key) => {
            return Err(Error::data(format!("no line has the label '{key}' of --positive"))
                .remedy(format!("name one of the labels, such as {}", two[0].1)));
        }
        None if is_name(first) && second.is_none_or(is_name) => names.0,
        None => match obvious_class(first, second) {
            Some(true) => first.clone(),
            // Nobody is positive where the other class is alone.
            Some(false) => second.unwrap_or("").to_string(),
            None => {
                let both: Vec<&str> = two.iter().map(|l| l.1.as_str()).collect();
                return Err(Error::format(format!(
                    "which label is the positive class? The labels are {}",
                    both.join(" and ")
                ))
                .at(place(two[0]))
                .remedy("say so with --positive VALUE, or use 0 and 1"));
            }
        },
    };
    Ok(labels.iter().map(|l| l.0 == positive).collect())
}
