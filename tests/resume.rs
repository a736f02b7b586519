//! A run goes on only as the run it was: every setting, the data, the initial weights, the instruction set and the version
//! are compared, and a difference is refused with the field and both values.

use heartlore::checkpoint::{Rotating, State};
use heartlore::data::batch::Sampling;
use heartlore::data::source::MemoryWindows;
use heartlore::data::split::{Fold, Group, Protocol, Split};
use heartlore::error::{Error, Kind};
use heartlore::graph::{Layout, MatmulPrecision};
use heartlore::nn::{EncoderNorm, MaskConfig, ModelConfig, NormOrder, Pooling, Positions};
use heartlore::optim::Schedule;
use heartlore::train::{
    AdamSettings, Augment, Control, Event, FinetuneSettings, Labelled, NoopObserver, Observer, PretrainData,
    PretrainSettings, Run, RunFingerprint, finetune, pretrain,
};
use std::collections::BTreeSet;
use std::path::Path;

/// Everything that a run is given; the tests change one thing at a time.
#[derive(Clone)]
struct Given {
    model: ModelConfig,
    run: Run,
    augment: Augment,
    sampling: Sampling,
    store: String,
    train: Vec<usize>,
    validation: Vec<usize>,
    test: Vec<usize>,
    labels: Vec<bool>,
    protocol: Protocol,
    fold: String,
    balance: bool,
    patience: Option<u64>,
    encoder_rate: f64,
    test_precision: Option<MatmulPrecision>,
    scale: f32,
    taken: bool,
}

fn given() -> Given {
    Given {
        model: ModelConfig {
            window: 16,
            channels: vec![4, 8],
            kernels: vec![5, 3],
            strides: vec![2, 2],
            layers: 1,
            heads: 2,
            hidden: 8,
            head_hidden: vec![4],
            pooling: Pooling::Mean,
            mask: MaskConfig { probability: 0.2, span: 3 },
            ..ModelConfig::tiny()
        },
        run: Run {
            seed: 7,
            threads: 1,
            shards: 2,
            group: 2,
            batch: 4,
            epochs: 3,
            schedule: Schedule::Linear { rate: 3e-3, warmup: 1, total: 3 },
            adam: AdamSettings::default(),
            clip_norm: Some(1.0),
            precision: MatmulPrecision::F32,
            checkpoint_every: 1,
            isa: None,
        },
        augment: Augment { shift: 4, noise: 0.05, scale: 0.1, ..Augment::default() },
        sampling: Sampling::All,
        store: "one".into(),
        train: (0..8).collect(),
        validation: (8..10).collect(),
        test: (10..12).collect(),
        labels: (0..12).map(|i| i % 2 == 1).collect(),
        protocol: Protocol::KFold { group: Group::Subject, k: 2 },
        fold: "first".into(),
        balance: true,
        patience: Some(5),
        encoder_rate: 0.5,
        test_precision: None,
        scale: 1.0,
        taken: false,
    }
}

impl Given {
    fn source(&self) -> MemoryWindows {
        let n = self.model.window;
        let all = (0..12 * n).map(|i| (i as f32 * 0.3 + (i / n) as f32).sin()).collect();
        MemoryWindows::new(all, n).unwrap()
    }

    fn pretrain(&self, dir: &Path, resume: bool, observer: &mut dyn Observer) -> heartlore::Result<Vec<f32>> {
        let source = self.source();
        let data = PretrainData {
            source: &source,
            train: self.train.clone(),
            sampling: self.sampling.clone(),
            validation: self.validation.clone(),
            fingerprint: self.store.clone(),
        };
        let settings =
            PretrainSettings { model: self.model.clone(), run: self.run.clone(), augment: self.augment };
        pretrain(&settings, &data, dir, resume, observer).map(|s| s.weights.values)
    }

    fn finetune(&self, dir: &Path, resume: bool, observer: &mut dyn Observer) -> heartlore::Result<Vec<f32>> {
        let source = self.source();
        let settings = FinetuneSettings {
            model: self.model.clone(),
            run: self.run.clone(),
            augment: self.augment,
            balance: self.balance,
            patience: self.patience,
            encoder_rate: self.encoder_rate,
            final_model: false,
            test_precision: self.test_precision,
        };
        let fold = Fold {
            name: self.fold.clone(),
            train: self.train.clone(),
            validation: self.validation.clone(),
            test: self.test.clone(),
            unused: vec![],
        };
        let data = Labelled {
            source: &source,
            windows: (0..12).collect(),
            labels: self.labels.clone().into(),
            split: Split { folds: vec![fold], protocol: self.protocol.clone(), warnings: vec![], seed: 1 },
            fingerprint: self.store.clone(),
        };
        let initial = |layout: &Layout| {
            let names = layout.entries().iter().map(|e| e.name.clone());
            let taken = names.filter(|n| self.taken && !n.starts_with("head")).collect();
            Ok((layout.init(3).iter().map(|w| w * self.scale).collect(), taken))
        };
        finetune(&settings, &data, &initial, dir, resume, observer).map(|s| s.model.unwrap().values)
    }
}

type Change = (&'static str, fn(&mut Given));

/// What every run has, and a change of it that the run must notice under that name.
const COMMON: [Change; 43] = [
    ("model.window", |g| g.model.window = 32),
    ("model.channels", |g| g.model.channels = vec![8, 8]),
    ("model.kernels", |g| g.model.kernels = vec![3, 3]),
    ("model.strides", |g| g.model.strides = vec![2, 1]),
    ("model.encoder_norm", |g| {
        let norm = &mut g.model.encoder_norm;
        *norm = if *norm == EncoderNorm::Every { EncoderNorm::None } else { EncoderNorm::Every };
    }),
    ("model.layers", |g| g.model.layers = 2),
    ("model.heads", |g| g.model.heads = 4),
    ("model.hidden", |g| g.model.hidden = 12),
    ("model.activation", |g| g.model.activation = heartlore_kernels::activation::Activation::Tanh),
    ("model.norm_order", |g| {
        let order = &mut g.model.norm_order;
        *order = if *order == NormOrder::Pre { NormOrder::Post } else { NormOrder::Pre };
    }),
    ("model.positions", |g| g.model.positions = Positions::None),
    ("model.embed_norm", |g| g.model.embed_norm ^= true),
    ("model.cls", |g| g.model.cls ^= true),
    ("model.pooling", |g| g.model.pooling = Pooling::Last),
    ("model.dropout", |g| g.model.dropout = 0.123),
    ("model.attention_dropout", |g| g.model.attention_dropout = 0.123),
    ("model.norm_eps", |g| g.model.norm_eps *= 2.0),
    ("model.head_hidden", |g| g.model.head_hidden = vec![5]),
    ("model.head_dropout", |g| g.model.head_dropout = 0.123),
    ("model.mask.probability", |g| g.model.mask.probability = 0.3),
    ("model.mask.span", |g| g.model.mask.span = 4),
    ("run.instruction_set", |g| g.run.isa = Some("portable".into())),
    ("run.seed", |g| g.run.seed = 8),
    ("run.shards", |g| g.run.shards = 3),
    ("run.group", |g| g.run.group = 1),
    ("run.batch", |g| g.run.batch = 5),
    ("run.epochs", |g| g.run.epochs = 4),
    ("run.schedule", |g| g.run.schedule = Schedule::Linear { rate: 3e-3, warmup: 1, total: 4 }),
    ("run.adam.beta1", |g| g.run.adam.beta1 = 0.8),
    ("run.adam.beta2", |g| g.run.adam.beta2 = 0.99),
    ("run.adam.eps", |g| g.run.adam.eps = 1e-7),
    ("run.adam.weight_decay", |g| g.run.adam.weight_decay = f64::MIN_POSITIVE),
    ("run.adam.decoupled", |g| g.run.adam.decoupled = true),
    ("run.clip_norm", |g| g.run.clip_norm = None),
    ("run.precision", |g| g.run.precision = MatmulPrecision::Bf16),
    ("augment.shift", |g| g.augment.shift = 5),
    // The next number after: no digit is lost on the way.
    ("augment.noise", |g| g.augment.noise = 0.05f64.next_up()),
    ("augment.scale", |g| g.augment.scale = 0.0),
    ("augment.drift", |g| g.augment.drift = 0.1),
    ("augment.flip", |g| g.augment.flip = 0.5),
    ("store", |g| g.store = "another".into()),
    ("train", |g| g.train.swap(0, 1)),
    ("validation", |g| g.validation = vec![8]),
];

const PRETRAINING: [Change; 2] = [
    ("sampling", |g| g.sampling = Sampling::Capped { groups: vec![0; 8], cap: 3 }),
    ("sampling", |g| g.sampling = Sampling::Weighted { weights: vec![1.0; 8], draws: 8 }),
];

const FINETUNING: [Change; 13] = [
    ("balance", |g| g.balance = false),
    ("patience", |g| g.patience = None),
    ("encoder_rate", |g| g.encoder_rate = 0.25),
    ("test_precision", |g| g.test_precision = Some(MatmulPrecision::Int8)),
    ("protocol", |g| g.protocol = Protocol::LeaveOneOut { group: Group::Subject }),
    ("fold.name", |g| g.fold = "second".into()),
    ("fold.train", |g| g.train = vec![0, 1, 2, 3, 4, 5, 6, 11]),
    ("fold.validation", |g| g.validation = vec![9, 8]),
    ("fold.test", |g| g.test = vec![10]),
    ("fold.labels", |g| g.labels[3] ^= true),
    ("initial_weights", |g| g.scale = 1.5),
    ("initial_weights", |g| g.scale = 1.0 + f32::EPSILON),
    ("initial_weights.names", |g| g.taken = true),
];

fn stop_at(step: u64) -> impl FnMut(&Event) -> Control {
    move |event| match event {
        Event::Step { step: s, .. } if *s >= step => Control::Stop,
        _ => Control::Continue,
    }
}

fn refused(result: heartlore::Result<Vec<f32>>, field: &str) -> Error {
    let e = result.expect_err(field);
    assert_eq!(e.kind(), Kind::Usage, "{field}: {e}");
    let text = e.to_string();
    assert!(text.contains(&format!("{field}: the run was started with ")), "{field}: {text}");
    assert!(text.contains(", now it is ") && text.contains("remedy"), "{field}: {text}");
    e
}

type Job = fn(&Given, &Path, bool, &mut dyn Observer) -> heartlore::Result<Vec<f32>>;

/// Interrupts a run, tries to go on with each change, and then as it was. No caller can change the `fixed` fields alone.
fn every_field(job: Job, checkpoint: &str, table: &[Change], fixed: &[&str]) {
    let root = tempfile::tempdir().unwrap();
    let (whole, cut) = (root.path().join("whole"), root.path().join("cut"));
    let want = job(&given(), &whole, false, &mut NoopObserver).unwrap();
    assert_eq!(job(&given(), &cut, false, &mut stop_at(3)).unwrap_err().kind(), Kind::Interrupted);
    for (field, change) in table {
        let mut other = given();
        change(&mut other);
        if *field == "run.instruction_set" && other.run.isa().unwrap() == given().run.isa().unwrap() {
            continue; // this machine has no other
        }
        refused(job(&other, &cut, true, &mut NoopObserver), field);
    }

    // No field is forgotten in the table, and each is compared by itself.
    let file = cut.join(checkpoint);
    let kept = State::load(&Rotating::new(&file).unwrap()).unwrap().value;
    let saved = RunFingerprint::from_text(kept.string(RunFingerprint::KEY).unwrap()).unwrap();
    let listed: BTreeSet<&str> = table.iter().map(|c| c.0).chain(fixed.iter().copied()).collect();
    for (name, value) in saved.fields() {
        assert!(listed.contains(name), "{name} is in no table of this test");
        let mut state = kept.clone();
        let quoted = |v: &str| format!("{name:?}:{v:?}"); // as in JSON, for these values
        let text = state.strings[RunFingerprint::KEY].replace(&quoted(value), &quoted("something else"));
        state.strings.insert(RunFingerprint::KEY.into(), text);
        state.write(&file).unwrap();
        let e = refused(job(&given(), &cut, true, &mut NoopObserver), name).to_string();
        assert!(e.contains(&format!("something else, now it is {value}")), "{e}");
    }
    let names: BTreeSet<&str> = saved.fields().map(|f| f.0).collect();
    assert_eq!(listed, names);

    kept.write(&file).unwrap();
    let mut same = given();
    (same.run.threads, same.run.checkpoint_every) = (3, 0);
    same.run.isa = Some(same.run.isa().unwrap().name().into());
    let have = job(&same, &cut, true, &mut NoopObserver).unwrap();
    assert!(have.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits()), "other bits");
}

#[test]
fn pre_training_goes_on_only_as_it_was() {
    let table: Vec<Change> = COMMON.iter().chain(&PRETRAINING).copied().collect();
    every_field(
        |g, dir, resume, observer| g.pretrain(dir, resume, observer),
        "checkpoints/last.ckpt",
        &table,
        // The weights follow from the model and the seed.
        &["heartlore_version", "job", "initial_weights"],
    );
}

#[test]
fn fine_tuning_goes_on_only_as_it_was() {
    let common = COMMON.iter().filter(|c| !["train", "validation"].contains(&c.0));
    let table: Vec<Change> = common.chain(&FINETUNING).copied().collect();
    every_field(
        |g, dir, resume, observer| g.finetune(dir, resume, observer),
        "folds/000/checkpoints/last.ckpt",
        &table,
        // How gently it tunes is an argument of `finetune_with`, which this job does not call.
        &["heartlore_version", "job", "fold.number", "layer_decay", "label_smoothing"],
    );
}

#[test]
fn a_finished_fold_is_compared_too() {
    let root = tempfile::tempdir().unwrap();
    let want = given().finetune(root.path(), false, &mut NoopObserver).unwrap();
    for (field, change) in &FINETUNING {
        let mut other = given();
        change(&mut other);
        let e = refused(other.finetune(root.path(), true, &mut NoopObserver), field);
        assert!(e.file().unwrap().ends_with("folds/000/done.ckpt"));
    }
    assert_eq!(given().finetune(root.path(), true, &mut NoopObserver).unwrap(), want);
}
