//! `heartlore null-study`: a finished run's scores against those under labels permuted within people.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::evaluate::{open_of_run, read_predictions, read_split};
use super::finetune::{self, Plan};
use super::{Command, Context, interrupt};
use crate::checkpoint::write_bytes;
use crate::data::store::Store;
use crate::error::{Error, IoContext, Kind, Result};
use crate::evaluate::baselines::{FeatureTable, measure, rows_of};
use crate::evaluate::null::{
    Exchange, METRICS, NullDistribution, NullStudy, Permuter, baseline_scores, state_scores,
};
use crate::evaluate::statements::{capitalised, counted, people};
use crate::evaluate::{Baseline, Study};
use crate::train::{Control, Event};

const EXAMPLES: &str = "\
Examples:
  heartlore null-study runs/fine
  heartlore null-study runs/fine --permutations 1000 --out null
  heartlore null-study runs/fine --model-permutations 20

Labels are permuted within people (whole trials, where each trial has one label) and everything is fitted again in the same
folds: the baselines, with plain features and with features centred within people, which takes seconds, and, if asked for, the
model, which takes as long per permutation as the folds of the run did. The scores under permuted labels are what there is
without any effect; p is the share of permutations that score at least as high as the true labels, these included. Beside
null.csv (every score of every permutation) and null.json there will be null-study.toml, which --config takes back.";

/// Name of the configuration it leaves.
const FILE: &str = "null-study.toml";
/// Level of intervals.
const LEVEL: f64 = 0.95;
/// Of the permuted scores.
const QUANTILES: [f64; 5] = [0.025, 0.25, 0.5, 0.75, 0.975];

/// Flags of `null-study`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Run directory of a finished `finetune`
    pub run: PathBuf,
    /// Permutations of the labels, for the baselines
    #[arg(long, default_value_t = 200)]
    pub permutations: u64,
    /// Permutations under which the model is trained again; each costs one training of all folds
    #[arg(long, default_value_t = 0)]
    pub model_permutations: u64,
    /// Prepared store of the run, if it was moved
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Directory for null.csv, null.json and null-study.toml [default: null/ in the run directory]
    #[arg(long, short)]
    pub out: Option<PathBuf>,
    /// Keys the permutations
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Configuration file with any of these flags as keys
    #[arg(long)]
    pub config: Option<PathBuf>,
}

/// Everything that is permuted and fitted again.
struct Job<'a> {
    args: &'a Args,
    context: &'a Context,
    store: &'a Store,
    plan: Plan,
    list: Vec<Baseline>,
    tables: Vec<Option<FeatureTable>>,
    permuter: Permuter,
    study: NullStudy,
    seconds: f64,
}

/// Permutes, fits, prints and writes.
///
/// # Errors
/// No finished run, another store, nobody with trials of both states, a failing disk, an interruption.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let split = read_split(&args.run)?;
    let (observed, _) = read_predictions(&args.run.join("predictions.csv"), None, ("", ""))?;
    if args.permutations.max(args.model_permutations) == 0 {
        return Err(super::bad_flag("permutations", "nothing to permute").remedy("give at least 1"));
    }
    let data = args.data.clone().unwrap_or_else(|| split.store.clone());
    let store = open_of_run(&data, &split)?;
    let plan = plan_of_run(&args.run, &data, &store, context)?;
    let labels = &plan.labels;
    let folds = plan.folds.rows(&labels.rows);
    if folds != split.folds {
        return Err(Error::data("the folds of the run's config.toml are not those of its split.json")
            .in_file(&args.run)
            .remedy("run finetune again with this version"));
    }
    let keys = store.index().split_keys();
    let take = |list: &[u32]| labels.rows.iter().map(|&r| list[r]).collect::<Vec<u32>>();
    let permuter = Permuter::new(&take(&keys.subject), &take(&keys.trial), &labels.classes);
    if permuter.people == 0 {
        return Err(Error::data(
            "nobody has windows of both states: labels cannot be permuted within people",
        )
        .in_file(&args.run)
        .remedy("a null study needs a label that changes within people"));
    }
    let mut list = Baseline::standard();
    let centred: Vec<Baseline> =
        list.iter().filter(|b| b.features.is_some()).map(Baseline::centred).collect();
    list.splice(list.len() - 1..list.len() - 1, centred);
    let p = plan.folds.test_windows(labels, &store);
    let tables = {
        let fs_hz = store.manifest().processing.rate_hz;
        let study = Study { source: &store, fs_hz, folds: &folds, person: keys.subject.clone() };
        measure(&list, &study, &rows_of(&p, &folds))?
    };
    let mut study = NullStudy::default();
    study.method("model", state_scores(&observed, &observed.probability, 0.5));
    for (b, scores) in list.iter().zip(baseline_scores(&list, &tables, &p, &folds, 0.5)?) {
        study.method(&b.name, scores);
    }
    let out = args.out.clone().unwrap_or_else(|| args.run.join("null"));
    let _lock = super::rundir::lock(&out, context)?;
    let mut job = Job { args, context, store: &store, plan, list, tables, permuter, study, seconds: 0.0 };
    job.permute(&out)?;
    job.report(&out)
}

/// What the run's own flags come to.
fn plan_of_run(run: &Path, data: &Path, store: &Store, context: &Context) -> Result<Plan> {
    let config = run.join(super::config::FILE).to_string_lossy().into_owned();
    let data = data.to_string_lossy();
    let flags = ["finetune", "--config", &config, "--data", &data, "--final-model=false"];
    let (command, inner) = context.nested(&flags)?;
    let Command::Finetune(flags) = command else { return Err(Error::usage("not finetune")) };
    finetune::plan(&flags, store, &inner)
}

impl Job<'_> {
    /// All permutations; the model's are the first of them.
    fn permute(&mut self, out: &Path) -> Result<()> {
        interrupt::listen();
        let args = self.args;
        let total = args.permutations.max(args.model_permutations);
        let bar = self.context.progress(total, "permutations");
        for k in 0..total {
            if interrupt::asked() {
                return Err(Error::new(Kind::Interrupted, format!("stopped after {k} permutations"))
                    .remedy("run again; nothing is kept"));
            }
            let order = self.permuter.order(args.seed, k);
            let (labels, folds) = self.plan.relabelled(&order);
            if k < args.permutations {
                let p = folds.test_windows(&labels, self.store);
                let rows = folds.rows(&labels.rows);
                match baseline_scores(&self.list, &self.tables, &p, &rows, 0.5) {
                    Ok(scores) => scores.into_iter().enumerate().for_each(|(m, s)| self.study.add(m + 1, s)),
                    // By trial or stimulus a permutation can leave a training part with one state.
                    Err(e) if e.kind() == Kind::Data => {
                        (0..self.list.len()).for_each(|m| self.study.add(m + 1, [None; 2]));
                    }
                    Err(e) => return Err(e),
                }
            }
            if k < args.model_permutations {
                let clock = Instant::now();
                let dir = out.join(format!(".permutation-{}", std::process::id()));
                let mut observer = |_: &Event| -> Control { interrupt::control() };
                let found = self.plan.fit(self.store, (&labels, &folds), &dir, false, &mut observer);
                let cleared = std::fs::remove_dir_all(&dir).with_file(&dir);
                let scores = match found {
                    Ok(summary) => {
                        cleared?;
                        let mut p = folds.test_windows(&labels, self.store);
                        let q: Vec<f64> = summary.predictions.iter().map(|q| q.probability).collect();
                        p.probability.clone_from(&q);
                        state_scores(&p, &q, 0.5)
                    }
                    Err(e) if e.kind() == Kind::Data => [None; 2],
                    Err(e) => return Err(e),
                };
                self.study.add(0, scores);
                self.seconds += clock.elapsed().as_secs_f64();
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn report(&self, out: &Path) -> Result<()> {
        let json = self.json();
        self.context.config.borrow_mut().set("out", out.to_string_lossy().into_owned())?;
        self.context.write_config(out, FILE)?;
        write_bytes(out.join("null.json"), format!("{json:#}\n").as_bytes())?;
        write_bytes(out.join("null.csv"), csv(&self.study.distributions).as_bytes())?;
        let mut text = format!("{}\n", self.exchanged());
        let wide = self.study.distributions.iter().map(|d| d.method.len()).max().unwrap_or(0);
        for metric in METRICS {
            let _ = writeln!(text, "{}:", capitalised(metric.name()));
            let _ = writeln!(
                text,
                "  {:<wide$}  {:<22}  {:>8}  {:>8} {:>8} {:>8} {:>8} {:>8}  {:>7}",
                "", "observed (95 %)", "expected", "2.5 %", "25 %", "median", "75 %", "97.5 %", "p"
            );
            for d in self.study.distributions.iter().filter(|d| d.metric == metric) {
                text.push_str(&line(d, wide));
            }
        }
        text.push_str(
            "  expected: the mean under permuted labels, which is what there is without an effect\n",
        );
        let _ = writeln!(text, "  {}", self.cost());
        let _ = writeln!(text, "  every score: {}", out.join("null.csv").display());
        self.context.result(&text, || json)
    }

    /// What was permuted, in words.
    fn exchanged(&self) -> String {
        let what = match self.permuter.exchange {
            Exchange::Trials => "the labels of whole trials",
            Exchange::Windows => "the labels of single windows, as some trials hold both states",
        };
        format!(
            "{} of {what}, within {} who {} both states",
            counted(
                self.args.permutations.max(self.args.model_permutations) as usize,
                "permutation",
                "permutations"
            ),
            people(self.permuter.people),
            if self.permuter.people == 1 { "has" } else { "have" }
        )
    }

    /// What the model's permutations cost, or would.
    fn cost(&self) -> String {
        match self.args.model_permutations {
            0 => "the model was not trained again; --model-permutations 20 does that, each costing a training of all folds"
                .into(),
            n => format!(
                "the model was trained again under {}, {:.1} s each",
                counted(n as usize, "permutation", "permutations"),
                self.seconds / n as f64
            ),
        }
    }

    fn json(&self) -> serde_json::Value {
        let one = |d: &NullDistribution| {
            serde_json::json!({
                "method": d.method,
                "metric": d.metric.name(),
                "observed": d.observed,
                "expected": d.mean(),
                "interval": d.interval(LEVEL).map(|(low, high)| serde_json::json!({ "low": low, "high": high })),
                "quantiles": QUANTILES.map(|p| d.quantile(p)),
                "p": d.p(),
                "permutations": d.permuted.len(),
                "undefined": d.undefined,
                "permuted": d.permuted,
            })
        };
        serde_json::json!({
            "exchanged": match self.permuter.exchange {
                Exchange::Trials => "labels of trials within people",
                Exchange::Windows => "labels of windows within people",
            },
            "people_with_both_states": self.permuter.people,
            "seed": self.args.seed,
            "p": "share of permutations that score at least as high as the true labels, these included",
            "distributions": self.study.distributions.iter().map(one).collect::<Vec<_>>(),
            "interval": "observed minus expected, as wide as the scores scatter under permuted labels, 95 %",
            "quantiles": QUANTILES,
            "settings": self.context.settings(),
        })
    }
}

/// One method's row.
fn line(d: &NullDistribution, wide: usize) -> String {
    let number = |v: Option<f64>| v.map_or("-".into(), |v| format!("{v:.3}"));
    let q: Vec<String> = QUANTILES.iter().map(|p| format!("{:>8}", number(d.quantile(*p)))).collect();
    let p = d.p().map_or("-".into(), |p| if p < 0.001 { "<0.001".into() } else { format!("{p:.3}") });
    let undefined = if d.undefined > 0 { format!("  ({} undefined)", d.undefined) } else { String::new() };
    let observed = match d.interval(LEVEL) {
        Some((low, high)) => format!("{} ({low:.3} to {high:.3})", number(d.observed)),
        None => number(d.observed),
    };
    format!(
        "  {:<wide$}  {observed:<22}  {:>8}  {}  {p:>7}{undefined}\n",
        d.method,
        number(d.mean()),
        q.join(" ")
    )
}

fn csv(distributions: &[NullDistribution]) -> String {
    let mut text = String::from("method,metric,labels,value\n");
    for d in distributions {
        let name = format!("\"{}\",{}", d.method, d.metric.name());
        if let Some(v) = d.observed {
            let _ = writeln!(text, "{name},true,{v}");
        }
        for v in &d.permuted {
            let _ = writeln!(text, "{name},permuted,{v}");
        }
    }
    text
}
