//! The probe of `finetune --mode probe`: what its head reads, the baselines with the same reference, the saved model.

use std::path::Path;

use crate::checkpoint::write_bytes;
use crate::cli::finetune::{self, Args};
use crate::cli::options::labels::Labels;
use crate::cli::pretrain::{is_simulated, training_data};
use crate::cli::rundir::RunDir;
use crate::cli::{Context, evaluate};
use crate::data::source::WindowSource;
use crate::data::store::Store;
use crate::error::{Error, Result};
use crate::evaluate::{BaselinePredictions, Evaluation, evaluate as assess};
use crate::model::reading::{PHYSIOLOGY, Reading, Reference};
use crate::model::{Card, InitProvenance, Model, ReadingHead, Task, provenance};
use crate::nn::{ModelConfig, Pooling};
use crate::train::probe::{FoldProbe, ProbeFeatures, ProbeSettings, ProbeSummary, probe};
use crate::train::read::{self, Read};
use crate::train::{Labelled, Tuning};

/// What is read before folds are made.
pub(crate) struct Inputs {
    reading: Reading,
    encoder: Model,
    features: ProbeFeatures,
    person: Vec<u32>,
    settings: ProbeSettings,
}

/// Embeds the windows, finds references, and takes windows out of `labels` that cannot be judged.
pub(crate) fn read_inputs(
    args: &Args,
    store: &Store,
    init: Option<&Model>,
    config: &ModelConfig,
    seed: u64,
    labels: &mut Labels,
    context: &Context,
) -> Result<Inputs> {
    let (reading, rest) = args.reading.resolve()?;
    let mut config = ModelConfig { head_hidden: Vec::new(), ..config.clone() };
    if args.model.pooling.is_none() {
        config.pooling = Pooling::MeanDeviation;
    }
    let encoder = encoder(init, config, seed)?
        .with_threads(args.training.threads)
        .with_preprocessing(crate::model::Preprocessing::of_store(store.manifest())?);
    let wanted = read::rows_of_people(store.index(), &labels.rows);
    let measured = read::measure_rows(&encoder, store, &wanted)?;
    let found = read::read_rows(store, &measured, &labels.rows, &reading, &rest)
        .map_err(|e| e.in_file(store.dir()))?;
    found.sentences(&reading).iter().for_each(|s| context.note(s));
    keep(labels, &found);
    let people = store.index().split_keys().subject;
    let person = labels.rows.iter().map(|&r| people[r]).collect();
    let settings = ProbeSettings {
        inner_folds: args.reading.inner_folds,
        seed,
        threads: args.training.threads,
        ..ProbeSettings::default()
    };
    Ok(Inputs { reading, encoder, features: found.features, person, settings })
}

/// The encoder of `init` under this configuration, or one with random weights.
pub(crate) fn encoder(init: Option<&Model>, config: ModelConfig, seed: u64) -> Result<Model> {
    let Some(model) = init else { return Model::init(config, Task::Encoder, seed) };
    let layout = crate::nn::embed(&config, 1)?.graph.layout().clone();
    Model::from_weights(config, Task::Encoder, &layout, &model.weights_for(&layout)?)
}

fn keep(labels: &mut Labels, found: &Read) {
    let rows = found.keep.iter().map(|&i| labels.rows[i]).collect();
    let classes = found.keep.iter().map(|&i| labels.classes[i]).collect();
    if !labels.ratings.is_empty() {
        labels.ratings = found.keep.iter().map(|&i| labels.ratings[i]).collect();
    }
    (labels.rows, labels.classes) = (rows, classes);
}

impl Inputs {
    /// Fits the probes.
    pub(crate) fn fit(&self, data: &Labelled<'_>, whole: bool) -> Result<ProbeSummary> {
        probe(data, &self.features, &self.person, &self.settings, whole)
    }

    /// The baselines' probabilities, in the order of the probe's predictions: heart rate, and heart rate with variability,
    /// with the same reference and context.
    pub(crate) fn baselines(&self, data: &Labelled<'_>) -> Result<Vec<BaselinePredictions>> {
        let n = PHYSIOLOGY.len();
        let (rate, all): (Vec<usize>, Vec<usize>) = if self.reading.reference == Reference::None {
            (vec![0], (0..n).collect())
        } else {
            (vec![n], (0..2 * n).collect())
        };
        let mut out = Vec::new();
        for (name, columns) in [("heart rate", rate), ("heart rate and variability", all)] {
            let found = probe(data, &self.features.only(&columns), &self.person, &self.settings, false)?;
            let probability = found.predictions.iter().map(|p| p.probability).collect();
            out.push(BaselinePredictions { name: name.to_string(), probability, unmeasured: 0 });
        }
        Ok(out)
    }

    /// What the probe reads, in words.
    pub(crate) fn reading(&self) -> &Reading {
        &self.reading
    }

    /// The model of a probe.
    pub(crate) fn model(&self, whole: &FoldProbe, labels: &Labels) -> Result<Model> {
        let task = Task::Classifier {
            positive: labels.positive.clone(),
            negative: labels.negative.clone(),
            threshold: 0.5,
        };
        let missing = whole.mean[..self.reading.physiology_inputs()].to_vec();
        let head = ReadingHead { reading: self.reading, missing };
        self.encoder.clone().with_head(head, task, &whole.weights, whole.bias)
    }
}

/// What was chosen inside the training people, over the folds.
pub(crate) fn chosen(found: &ProbeSummary) -> String {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for f in &found.folds {
        let name = f.penalty.map_or("left out".to_string(), |p| format!("penalty {p}"));
        match counts.iter_mut().find(|(n, _)| *n == name) {
            Some((_, n)) => *n += 1,
            None => counts.push((name, 1)),
        }
    }
    let parts: Vec<String> = counts.iter().map(|(name, n)| format!("{name} in {n}")).collect();
    format!("The embedding, as chosen inside the training people of each fold: {}.", parts.join(", "))
}

/// The model to start from: a directory, or `pretrained` for the one that comes with the program.
///
/// # Errors
/// As [`Model::load`].
pub(crate) fn load_init(dir: &Path, context: &Context) -> Result<Model> {
    if dir.as_os_str() == "pretrained" && !dir.exists() {
        return Model::pretrained();
    }
    super::windows::load_model(dir, context)
}

/// A head that starts from a probe is linear, on mean and deviation unless told otherwise.
pub(crate) fn shape_for_mode(args: &Args, config: &mut ModelConfig) {
    if args.mode == "probe-then-tune" {
        config.head_hidden = Vec::new();
        if args.model.pooling.is_none() {
            config.pooling = Pooling::MeanDeviation;
        }
    }
}

/// What makes tuning gentler; with `probe-then-tune`, the heads that the folds start from: probes of the embedding alone.
///
/// # Errors
/// As [`probe`].
pub(crate) fn tuning(
    args: &Args,
    store: &Store,
    init: Option<&Model>,
    config: &ModelConfig,
    data: &Labelled<'_>,
) -> Result<Tuning> {
    let mut tuning =
        Tuning { layer_decay: args.layer_decay, label_smoothing: args.label_smoothing, ..Tuning::default() };
    if args.mode != "probe-then-tune" {
        return Ok(tuning);
    }
    let (seed, threads) = (args.training.seed, args.training.threads);
    let encoder = encoder(init, config.clone(), seed)?.with_threads(threads);
    let (samples, columns) = (store.samples(), config.features());
    let mut x = Vec::with_capacity(data.windows.len() * columns);
    let mut window = vec![0.0f32; samples];
    for &row in &data.windows {
        store.read(row, &mut window)?;
        x.extend(encoder.embed(&window)?);
    }
    let features = ProbeFeatures { x, columns, physiology: 0 };
    let people = store.index().split_keys().subject;
    let person: Vec<u32> = data.windows.iter().map(|&r| people[r]).collect();
    let inner_folds = args.reading.inner_folds;
    let settings = ProbeSettings { inner_folds, seed, threads, ..ProbeSettings::default() };
    let found = probe(data, &features, &person, &settings, args.final_model)?;
    tuning.heads = found.folds.into_iter().chain(found.whole).map(|f| (f.weights, f.bias)).collect();
    Ok(tuning)
}

/// Refuses what only a probe can honour.
///
/// # Errors
/// A reference or a context.
pub(crate) fn refuse_reading(args: &Args) -> Result<()> {
    let r = &args.reading;
    if r.reference != Reference::None || r.context_s > 0.0 {
        return Err(Error::usage(format!(
            "--mode {} reads windows alone, without reference and context",
            args.mode
        ))
        .remedy("give --mode probe with --reference and --context-s"));
    }
    Ok(())
}

/// Probes into `args.out` and writes everything there.
pub(crate) fn train(args: &Args, store: &Store, context: &Context) -> Result<(Evaluation, Option<Model>)> {
    let init = match &args.init {
        Some(dir) => {
            let model = load_init(dir, context)?;
            finetune::check_same_preparation(&model, dir, store)?;
            Some(model)
        }
        None => None,
    };
    let mut config = args.model.resolve(init.as_ref().map(Model::config))?;
    if args.model.window.is_none() && init.is_none() {
        config.window = store.samples();
        config.validate()?;
    }
    let left_out = args.selection.people_out()?;
    context.config.borrow_mut().set("exclude-subject", left_out.clone())?;
    let mut labels = args
        .labels
        .resolve(store.index(), &args.selection.rows(store, &left_out)?)
        .map_err(|e| e.in_file(store.dir()))?;
    if labels.missing + labels.other > 0 {
        context.note(format!(
            "{} windows have no label and {} another label than the two classes; they are left out",
            labels.missing, labels.other
        ));
    }
    let seed = args.training.seed;
    let inputs = read_inputs(args, store, init.as_ref(), &config, seed, &mut labels, context)?;
    let folds = finetune::Folds::of(&labels, finetune::split(args, store, &labels, seed)?);
    folds.split.warnings.iter().for_each(|w| context.warn(w));
    let tested = folds.split.folds.iter().flat_map(|f| &f.test).map(|&i| labels.rows[i]);
    let (tested, recordings) = provenance::of_rows(store, tested, false);
    let start = InitProvenance::of(args.init.as_deref().zip(init.as_ref()), (&tested, &recordings));
    start.require_no_label_leak(args.allow_leak)?;
    let (sentence, is_warning) = start.sentence();
    if is_warning {
        context.warn(&sentence);
    }
    let mut dir = RunDir::open(&args.out, args.resume, store, context)?;
    let mut file = finetune::split_file(args, store, &labels, &folds, start);
    file.protocol = format!("{}; {}", file.protocol, inputs.reading());
    let bytes = serde_json::to_vec(&file).map_err(|e| Error::format(e.to_string()))?;
    write_bytes(dir.dir().join("split.json"), &bytes)?;
    let data = finetune::labelled(store, &labels, &folds.split, folds.by_fold.clone());
    let found = inputs.fit(&data, args.final_model)?;
    finetune::write_predictions(&dir.dir().join("predictions.csv"), store, &labels.rows, &found.predictions)?;
    let others = if args.baselines { inputs.baselines(&data)? } else { Vec::new() };
    let p = finetune::predictions(store, &labels.rows, &found.predictions);
    let mut judged = assess(&p, &others, &finetune::evaluation_settings(args, &file))?;
    evaluate::report_init_provenance(&mut judged, &file);
    evaluate::report_split(&mut judged, &file);
    judged.say(chosen(&found), false);
    let model = match &found.whole {
        None => None,
        Some(whole) => {
            let mut model = inputs.model(whole, &labels)?;
            let (own, recordings) = provenance::of_rows(store, labels.rows.iter().copied(), true);
            let mut notes = vec![
                format!("A linear probe on frozen features; its head reads: {}.", inputs.reading()),
                "The figures of its run are of the folds' probes; this one was fitted on all labelled windows.".into(),
            ];
            notes.extend(judged.marks.iter().map(|m| m.sentence.clone()));
            model.card = Card {
                training_data: training_data(store, &labels.rows),
                simulated: is_simulated(store),
                metrics: Vec::new(),
                notes,
                licence: None,
                people: match &init {
                    None => Some(own),
                    Some(m) => m.card.people.as_ref().map(|before| provenance::union(own, before)),
                },
                provenance: match &init {
                    None => recordings,
                    Some(m) => recordings.and(&m.card.provenance),
                },
            };
            model.save(dir.dir().join("model"))?;
            Some(model)
        }
    };
    evaluate::write(&judged, dir.dir(), Some(dir.dir()), Some(store), context)?;
    dir.finish(judged.json())?;
    Ok((judged, model))
}
