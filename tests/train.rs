//! Training: the same bits for any number of threads, resumed runs equal undisturbed ones, and it learns.

use heartlore::data::batch::Sampling;
use heartlore::data::source::MemoryWindows;
use heartlore::data::split::{Keys, Protocol, Split};
use heartlore::error::Kind;
use heartlore::graph::MatmulPrecision;
use heartlore::nn::{MaskConfig, ModelConfig};
use heartlore::optim::Schedule;
use heartlore::train::{
    AdamSettings, Augment, Control, Event, FinetuneSettings, FoldLabels, Labelled, NoopObserver, Observer,
    PretrainData, PretrainSettings, Run, Weights, finetune, pretrain,
};
use std::path::Path;

fn model() -> ModelConfig {
    ModelConfig {
        window: 64,
        channels: vec![4, 8],
        kernels: vec![5, 3],
        strides: vec![2, 2],
        layers: 1,
        heads: 2,
        hidden: 16,
        head_hidden: vec![8],
        mask: MaskConfig { probability: 0.05, span: 6 },
        ..ModelConfig::tiny()
    }
}

fn run(threads: usize) -> Run {
    Run {
        seed: 7,
        threads,
        shards: 4,
        group: 2,
        batch: 10,
        epochs: 3,
        schedule: Schedule::Linear { rate: 3e-3, warmup: 1, total: 3 },
        adam: AdamSettings { weight_decay: 0.005, ..AdamSettings::default() },
        clip_norm: Some(1.0),
        precision: MatmulPrecision::F32,
        checkpoint_every: 2,
        isa: None,
    }
}

/// Windows of two kinds: slow and fast waves. The kind is the label.
fn windows(n: usize) -> MemoryWindows {
    let all: Vec<f32> = (0..n)
        .flat_map(|w| {
            let rate = if w % 2 == 0 { 0.3 } else { 0.5 } + (w as f32 * 0.37).sin() * 0.02;
            (0..64).map(move |i| (i as f32 * rate + w as f32).sin())
        })
        .collect();
    MemoryWindows::new(all, 64).unwrap()
}

fn bits(w: &Weights) -> Vec<u32> {
    w.values.iter().map(|x| x.to_bits()).collect()
}

fn pretrain_in(
    dir: &Path,
    threads: usize,
    resume: bool,
    observer: &mut dyn Observer,
) -> heartlore::Result<Weights> {
    let source = windows(34);
    let settings = PretrainSettings {
        model: model(),
        run: run(threads),
        augment: Augment { shift: 4, noise: 0.05, scale: 0.1, ..Augment::default() },
    };
    let data = PretrainData {
        source: &source,
        train: (0..26).collect(),
        sampling: Sampling::All,
        validation: (26..34).collect(),
        fingerprint: "test".into(),
    };
    pretrain(&settings, &data, dir, resume, observer).map(|s| s.weights)
}

fn finetune_in(
    dir: &Path,
    threads: usize,
    resume: bool,
    observer: &mut dyn Observer,
) -> heartlore::Result<(Vec<u64>, Weights)> {
    let source = windows(40);
    let settings = FinetuneSettings {
        model: model(),
        run: Run { epochs: 4, ..run(threads) },
        augment: Augment::default(),
        balance: true,
        patience: None,
        encoder_rate: 0.5,
        final_model: true,
        test_precision: None,
    };
    let keys = Keys {
        subject: (0..40).map(|i| i / 4).collect(),
        trial: (0..40).map(|i| i / 2).collect(),
        stimulus: vec![],
        class: (0..40).map(|i| i % 2).collect(),
    };
    let protocol = Protocol::KFold { group: heartlore::data::split::Group::Subject, k: 2 };
    let data = Labelled {
        source: &source,
        windows: (0..40).collect(),
        labels: (0..40).map(|i| i % 2 == 1).collect::<Vec<_>>().into(),
        split: Split::new(&keys, protocol, 0.2, 1).unwrap(),
        fingerprint: "test".into(),
    };
    let initial = |layout: &heartlore::graph::Layout| {
        let taken =
            layout.entries().iter().map(|e| e.name.clone()).filter(|n| !n.starts_with("head")).collect();
        Ok((layout.init(3), taken))
    };
    let summary = finetune(&settings, &data, &initial, dir, resume, observer)?;
    Ok((summary.predictions.iter().map(|p| p.probability.to_bits()).collect(), summary.model.unwrap()))
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let one = bits(&pretrain_in(&dir.path().join("1"), 1, false, &mut NoopObserver).unwrap());
    let (p_one, w_one) = finetune_in(&dir.path().join("f1"), 1, false, &mut NoopObserver).unwrap();
    for threads in [2, 5, 7] {
        let other =
            pretrain_in(&dir.path().join(threads.to_string()), threads, false, &mut NoopObserver).unwrap();
        assert!(bits(&other) == one, "pre-training with {threads} threads gives other bits");
        let (p, w) =
            finetune_in(&dir.path().join(format!("f{threads}")), threads, false, &mut NoopObserver).unwrap();
        assert!(
            p == p_one && bits(&w) == bits(&w_one),
            "fine-tuning with {threads} threads gives other bits"
        );
    }
}

#[test]
fn a_run_stopped_at_every_step_ends_with_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let whole = bits(&pretrain_in(&dir.path().join("whole"), 2, false, &mut NoopObserver).unwrap());
    let (p_whole, w_whole) = finetune_in(&dir.path().join("f"), 2, false, &mut NoopObserver).unwrap();
    // Stops after every single event that can stop it, again and again.
    let broken = dir.path().join("broken");
    let mut stops = 0;
    let weights = loop {
        let mut steps = 0;
        let mut observer = |e: &Event| match e {
            Event::Step { .. } | Event::Epoch { .. } => {
                steps += 1;
                Control::Stop
            }
            _ => Control::Continue,
        };
        match pretrain_in(&broken, 1 + stops % 3, stops > 0, &mut observer) {
            Ok(w) => break w,
            Err(e) => assert_eq!(e.kind(), Kind::Interrupted, "{e}"),
        }
        assert!(steps <= 1);
        stops += 1;
    };
    assert!(stops >= 9, "stopped only {stops} times");
    assert!(bits(&weights) == whole);
    let broken = dir.path().join("fbroken");
    let mut stops = 0;
    let (p, w) = loop {
        let mut events = 0;
        let mut observer = |_: &Event| {
            events += 1;
            if events > 5 { Control::Stop } else { Control::Continue }
        };
        match finetune_in(&broken, 2, stops > 0, &mut observer) {
            Ok(w) => break w,
            Err(e) => assert_eq!(e.kind(), Kind::Interrupted, "{e}"),
        }
        stops += 1;
        assert!(stops < 200);
    };
    assert!(stops >= 5 && p == p_whole && bits(&w) == bits(&w_whole));
}

#[test]
fn a_run_does_not_go_on_with_other_settings_or_over_another_run() {
    let dir = tempfile::tempdir().unwrap();
    let mut once =
        |e: &Event| if matches!(e, Event::Step { .. }) { Control::Stop } else { Control::Continue };
    assert!(pretrain_in(dir.path(), 1, false, &mut once).is_err());
    let again = pretrain_in(dir.path(), 1, false, &mut NoopObserver).unwrap_err();
    assert!(again.to_string().contains("--resume"), "{again}");
    let source = windows(34);
    let settings =
        PretrainSettings { model: model(), run: Run { seed: 8, ..run(1) }, augment: Augment::default() };
    let data = PretrainData {
        source: &source,
        train: (0..26).collect(),
        sampling: Sampling::All,
        validation: vec![],
        fingerprint: "test".into(),
    };
    let other = pretrain(&settings, &data, dir.path(), true, &mut NoopObserver).unwrap_err();
    assert!(other.to_string().contains("run.seed: the run was started with 7, now it is 8"), "{other}");
}

#[test]
fn pre_training_lowers_the_masked_error() {
    let dir = tempfile::tempdir().unwrap();
    let source = windows(60);
    let mut losses = Vec::new();
    let mut observer = |e: &Event| {
        if let Event::Epoch { validation_loss: Some(l), .. } = e {
            losses.push(*l);
        }
        Control::Continue
    };
    let run = Run {
        epochs: 80,
        schedule: Schedule::Linear { rate: 1e-2, warmup: 8, total: 80 },
        adam: AdamSettings::default(),
        checkpoint_every: 0,
        ..run(2)
    };
    let settings = PretrainSettings { model: model(), run: run.clone(), augment: Augment::default() };
    let data = PretrainData {
        source: &source,
        train: (0..50).collect(),
        sampling: Sampling::All,
        validation: (50..60).collect(),
        fingerprint: String::new(),
    };
    pretrain(&settings, &data, dir.path(), false, &mut observer).unwrap();
    // A sine has variance 1/2: that is the loss of predicting the mean.
    assert!(losses[0] > 0.3 && *losses.last().unwrap() < 0.5 * losses[0], "{losses:?}");
}

#[test]
fn fine_tuning_tells_slow_from_fast_waves_in_unseen_subjects() {
    let dir = tempfile::tempdir().unwrap();
    let source = windows(80);
    let settings = FinetuneSettings {
        model: model(),
        run: Run { epochs: 40, schedule: Schedule::Constant { rate: 5e-3 }, checkpoint_every: 0, ..run(2) },
        augment: Augment::default(),
        balance: true,
        patience: None,
        encoder_rate: 1.0,
        final_model: false,
        test_precision: None,
    };
    let keys = Keys {
        subject: (0..80).map(|i| i / 8).collect(),
        trial: (0..80).collect(),
        stimulus: vec![],
        class: (0..80).map(|i| i % 2).collect(),
    };
    let protocol = Protocol::KFold { group: heartlore::data::split::Group::Subject, k: 2 };
    let mut data = Labelled {
        source: &source,
        windows: (0..80).collect(),
        labels: (0..80).map(|i| i % 2 == 1).collect::<Vec<_>>().into(),
        split: Split::new(&keys, protocol, 0.0, 1).unwrap(),
        fingerprint: String::new(),
    };
    let initial = |layout: &heartlore::graph::Layout| Ok((layout.init(3), vec![]));
    let accuracy = |data: &Labelled<'_>, dir: &Path| {
        let s = finetune(&settings, data, &initial, dir, false, &mut NoopObserver).unwrap();
        assert_eq!(s.predictions.len(), 80);
        s.predictions.iter().filter(|p| (p.probability > 0.5) == p.label).count() as f64 / 80.0
    };
    let a = accuracy(&data, &dir.path().join("true"));
    assert!(a > 0.9, "accuracy {a}");
    // Labels that say nothing must not be learnt: the same pipeline at chance shows that no test window leaks.
    let labels: Vec<bool> = (0..80u32).map(|i| i.wrapping_mul(2_654_435_761) >> 31 == 1).collect();
    data.labels = labels.into();
    let a = accuracy(&data, &dir.path().join("shuffled"));
    assert!((0.3..0.7).contains(&a), "accuracy {a} on meaningless labels");
}

#[test]
fn a_training_part_with_one_class_and_a_wrong_window_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let source = windows(8);
    let settings = FinetuneSettings {
        model: model(),
        run: run(1),
        augment: Augment::default(),
        balance: false,
        patience: None,
        encoder_rate: 1.0,
        final_model: false,
        test_precision: None,
    };
    let keys =
        Keys { subject: (0..8).collect(), trial: (0..8).collect(), stimulus: vec![], class: vec![0; 8] };
    let protocol = Protocol::KFold { group: heartlore::data::split::Group::Subject, k: 2 };
    let mut data = Labelled {
        source: &source,
        windows: (0..8).collect(),
        labels: vec![false; 8].into(),
        split: Split::new(&keys, protocol, 0.0, 1).unwrap(),
        fingerprint: String::new(),
    };
    let initial = |layout: &heartlore::graph::Layout| Ok((layout.init(3), vec![]));
    let e = finetune(&settings, &data, &initial, dir.path(), false, &mut NoopObserver).unwrap_err();
    assert!(e.to_string().contains("negative windows only") && e.to_string().contains("fold"), "{e}");
    data.labels = vec![true; 7].into();
    assert!(finetune(&settings, &data, &initial, dir.path(), false, &mut NoopObserver).is_err());
    let wide = FinetuneSettings { model: ModelConfig::tiny(), ..settings };
    data.labels = vec![true; 8].into();
    let e = finetune(&wide, &data, &initial, dir.path(), false, &mut NoopObserver).unwrap_err();
    assert!(e.to_string().contains("64 samples") && e.to_string().contains("1280"), "{e}");
}

/// A fold tests the weights of its best epoch; the final model is trained as long as the folds' tested epochs say, whether
/// or not the folds may stop early.
#[test]
fn the_final_model_follows_the_rule_of_the_folds() {
    let source = windows(40);
    let mut ends = Vec::new();
    for (name, patience, validation) in [("none", None, 0.0), ("best", None, 0.25), ("early", Some(2), 0.25)]
    {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys {
            subject: (0..40).map(|i| i / 4).collect(),
            trial: (0..40).map(|i| i / 2).collect(),
            stimulus: vec![],
            class: (0..40).map(|i| i % 2).collect(),
        };
        let protocol = Protocol::KFold { group: heartlore::data::split::Group::Subject, k: 2 };
        // Labels that say nothing: what is learnt of the training people is wrong for others, so an early epoch is best.
        let labels: Vec<bool> = (0..40u32).map(|i| i.wrapping_mul(2_654_435_761) >> 31 == 1).collect();
        let data = Labelled {
            source: &source,
            windows: (0..40).collect(),
            labels: labels.into(),
            split: Split::new(&keys, protocol, validation, 1).unwrap(),
            fingerprint: "test".into(),
        };
        let settings = FinetuneSettings {
            model: model(),
            run: Run { epochs: 12, schedule: Schedule::Constant { rate: 1e-2 }, ..run(2) },
            augment: Augment::default(),
            balance: true,
            patience,
            encoder_rate: 1.0,
            final_model: true,
            test_precision: None,
        };
        let initial = |layout: &heartlore::graph::Layout| Ok((layout.init(3), vec![]));
        let (mut fold, mut epochs) = (0, [0u64; 3]);
        let mut observer = |e: &Event| {
            match e {
                Event::Fold { index, .. } => fold = *index,
                Event::Epoch { .. } => epochs[fold] += 1,
                _ => {}
            }
            Control::Continue
        };
        let summary = finetune(&settings, &data, &initial, dir.path(), false, &mut observer).unwrap();
        let tested: Vec<u64> = summary.folds.iter().map(|f| f.best_epoch + 1).collect();
        assert_eq!(epochs[2], tested.iter().sum::<u64>().div_ceil(2), "{name}: folds tested {tested:?}");
        ends.push((epochs[0], epochs[2]));
    }
    assert_eq!(ends[0], (12, 12), "without a validation part the last epoch is tested");
    assert!(ends[1].0 == 12 && ends[1].1 < 12, "all epochs run, an earlier one is taken: {ends:?}");
}

/// Windows of which some cannot be computed with.
struct Broken(MemoryWindows, std::ops::Range<usize>);

impl heartlore::data::source::WindowSource for Broken {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn samples(&self) -> usize {
        self.0.samples()
    }
    fn read(&self, i: usize, out: &mut [f32]) -> heartlore::Result<()> {
        self.0.read(i, out)?;
        if self.1.contains(&i) {
            out.fill(f32::NAN);
        }
        Ok(())
    }
}

#[test]
fn a_validation_loss_that_is_never_a_number_is_an_error() {
    use heartlore::data::source::WindowSource;
    let source = Broken(windows(34), 26..34);
    assert_eq!(source.len(), 34);
    let settings = PretrainSettings { model: model(), run: run(1), augment: Augment::default() };
    let data = |validation| PretrainData {
        source: &source,
        train: (0..26).collect(),
        sampling: Sampling::All,
        validation,
        fingerprint: "test".into(),
    };
    let dir = tempfile::tempdir().unwrap();
    let e = pretrain(&settings, &data((26..34).collect()), dir.path(), false, &mut NoopObserver).unwrap_err();
    assert!(e.to_string().contains("validation loss") && e.to_string().contains("3 epochs"), "{e}");
    // Gone on with, it is the same error, not a success.
    let e = pretrain(&settings, &data((26..34).collect()), dir.path(), true, &mut NoopObserver).unwrap_err();
    assert_eq!(e.kind(), Kind::Numeric, "{e}");
    let dir = tempfile::tempdir().unwrap();
    let fine = pretrain(&settings, &data((20..26).collect()), dir.path(), false, &mut NoopObserver);
    assert!(fine.unwrap().validation_loss.is_some_and(f64::is_finite));
}

/// Labels that differ by fold are those of the predictions and of training, fold by fold.
#[test]
fn each_fold_has_its_own_labels() {
    let source = windows(40);
    let keys = Keys {
        subject: (0..40).map(|i| i / 4).collect(),
        trial: (0..40).map(|i| i / 2).collect(),
        stimulus: vec![],
        class: (0..40).map(|i| i % 2).collect(),
    };
    let protocol = Protocol::KFold { group: heartlore::data::split::Group::Subject, k: 2 };
    let alternate: Vec<bool> = (0..40).map(|i| i % 2 == 1).collect();
    let opposite: Vec<bool> = alternate.iter().map(|c| !c).collect();
    let split = Split::new(&keys, protocol, 0.0, 1).unwrap();
    let settings = FinetuneSettings {
        model: model(),
        run: Run { epochs: 1, ..run(1) },
        augment: Augment::default(),
        balance: true,
        patience: None,
        encoder_rate: 1.0,
        final_model: true,
        test_precision: None,
    };
    let initial = |layout: &heartlore::graph::Layout| Ok((layout.init(3), vec![]));
    let with = |labels: FoldLabels| {
        let dir = tempfile::tempdir().unwrap();
        let data = Labelled {
            source: &source,
            windows: (0..40).collect(),
            labels,
            split: split.clone(),
            fingerprint: "test".into(),
        };
        finetune(&settings, &data, &initial, dir.path(), false, &mut NoopObserver)
    };
    let same = with(alternate.clone().into()).unwrap();
    let two = vec![alternate.clone(), opposite.clone()];
    let mixed = with(FoldLabels::by_fold(two.clone(), alternate.clone(), vec![])).unwrap();
    for (a, b) in same.predictions.iter().zip(&mixed.predictions) {
        assert_eq!(a.label == b.label, a.fold == 0);
        // The first fold's training is the same; the second's is of the opposite labels.
        assert_eq!(a.probability.to_bits() == b.probability.to_bits(), a.fold == 0);
    }
    assert_eq!(bits(same.model.as_ref().unwrap()), bits(mixed.model.as_ref().unwrap()));
    let fewer = with(FoldLabels::by_fold(two, alternate.clone(), (0..12).collect())).unwrap();
    assert_ne!(bits(same.model.as_ref().unwrap()), bits(fewer.model.as_ref().unwrap()));
    assert!(with(FoldLabels::by_fold(vec![alternate.clone()], alternate.clone(), vec![])).is_err());
    assert!(with(FoldLabels::by_fold(vec![], alternate, vec![40])).is_err());
}
