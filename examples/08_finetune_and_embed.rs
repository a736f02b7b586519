//! # Lesson 8: fine-tune and embed
//!
//! Run it: `cargo run --release --no-default-features --example 08_finetune_and_embed`
//!
//! The whole way from windows to a saved model that another program can load:
//!
//! ```text
//! pre-train    on windows without labels, of other people       -> encoder
//! fine-tune    the encoder, and a new head on its CLS vector,   -> probability of the state "aroused"
//!              on labelled windows, by folds of whole people
//! save, load   a directory with config.json, model.safetensors
//! predict      a probability per window; embed: a vector per window
//! ```
//!
//! **Folds are over people.** Windows of one person resemble each other whatever the state; with the same person on both
//! sides of a split the model would be praised for recognising the person. For the same reason pre-training sees none of
//! the people who are tested later, not even without their labels: it would learn their hearts by heart.
//!
//! The ECG and its labels are **simulated** ([`heartlore::signal::simulate`]): aroused means a faster, less variable heart,
//! much more clearly than in life, so that seconds of training show something. The accuracy says nothing about people.

use heartlore::Model;
use heartlore::data::batch::Sampling;
use heartlore::data::source::MemoryWindows;
use heartlore::data::split::{Group, Keys, Protocol, Split};
use heartlore::graph::MatmulPrecision;
use heartlore::model::{Card, Task};
use heartlore::nn::ModelConfig;
use heartlore::optim::Schedule;
use heartlore::signal::simulate::{SimulatedStudy, State, StateShift};
use heartlore::signal::{Band, Scaler, butterworth, sosfiltfilt, windows};
use heartlore::train::{
    AdamSettings, Augment, FinetuneSettings, Labelled, NoopObserver, PretrainData, PretrainSettings, Run,
    finetune, pretrain,
};
use std::error::Error;
use std::io::Write;
use std::ops::Range;
use std::time::Instant;

/// Samples of a window: 5 s at 128 Hz.
const WINDOW: usize = 640;
const FS_HZ: f64 = 128.0;
/// People with labels.
const PEOPLE: usize = 9;
/// Other people, for pre-training.
const UNLABELLED: usize = 6;

fn main() -> Result<(), Box<dyn Error>> {
    lesson(&mut std::io::stdout().lock())
}

/// Windows, and whose they are and in which state.
#[derive(Default)]
struct Data {
    windows: Vec<f32>,
    person: Vec<u32>,
    trial: Vec<u32>,
    aroused: Vec<bool>,
}

/// The people `who` of one study.
fn simulate(who: Range<usize>) -> heartlore::Result<Data> {
    // Three times the shift seen between rest and mental arithmetic.
    let shift = StateShift { strength: 3.0, ..StateShift::default() };
    let study = SimulatedStudy {
        subjects: PEOPLE + UNLABELLED,
        trials: 4,
        trial_s: 30.0,
        shift,
        ..SimulatedStudy::default()
    };
    let filter = butterworth(4, Band::Bandpass { low_hz: 0.8, high_hz: 50.0 }, FS_HZ)?;
    let mut data = Data::default();
    for number in who.start * study.trials..who.end * study.trials {
        let trial = study.trial(number / study.trials, number % study.trials)?;
        let x = sosfiltfilt(&filter, &trial.ecg.signal_mv)?;
        for place in windows(&x, WINDOW, WINDOW)?.windows {
            let mut window = x[place.range()].to_vec();
            Scaler::z_score(&window)?.apply(&mut window);
            data.windows.extend(window.iter().map(|v| *v as f32));
            data.person.push(trial.subject as u32);
            data.trial.push(number as u32);
            data.aroused.push(trial.state == State::Aroused);
        }
    }
    Ok(data)
}

fn run(epochs: u64, rate: f64) -> Run {
    Run {
        seed: 1,
        threads: 0,
        shards: 8,
        group: 4,
        batch: 32,
        epochs,
        schedule: Schedule::Linear { rate, warmup: 2, total: epochs },
        adam: AdamSettings::default(),
        clip_norm: Some(1.0),
        precision: MatmulPrecision::F32,
        checkpoint_every: 0,
        isa: None,
    }
}

/// Mean share of right answers over the two states.
fn balanced_accuracy(pairs: &[(bool, f64)]) -> f64 {
    let right = |state: bool| {
        let of: Vec<bool> = pairs.iter().filter(|p| p.0 == state).map(|p| (p.1 >= 0.5) == state).collect();
        of.iter().filter(|r| **r).count() as f64 / of.len() as f64
    };
    (right(true) + right(false)) / 2.0
}

/// The lesson.
pub(crate) fn lesson(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("heartlore-lesson-8-{}", std::process::id()));
    let result = in_folder(out, &folder);
    std::fs::remove_dir_all(&folder)?;
    result
}

fn in_folder(out: &mut dyn Write, folder: &std::path::Path) -> Result<(), Box<dyn Error>> {
    writeln!(out, "LESSON 8: FINE-TUNE AND EMBED (on simulated ECG)\n")?;
    let start = Instant::now();
    let data = simulate(0..PEOPLE)?;
    let n = data.aroused.len();
    let source = MemoryWindows::new(data.windows.clone(), WINDOW)?;
    let others = simulate(PEOPLE..PEOPLE + UNLABELLED)?;
    assert!(others.person.iter().all(|p| !data.person.contains(p)), "nobody is in both");
    let n_others = others.person.len();
    let unlabelled = MemoryWindows::new(others.windows, WINDOW)?;
    writeln!(out, "1. {PEOPLE} simulated people, {n} windows of 5 s, half of them aroused;")?;
    writeln!(out, "   {UNLABELLED} others, {n_others} windows, for pre-training\n")?;

    let config = ModelConfig { window: WINDOW, ..ModelConfig::tiny() };
    let settings =
        PretrainSettings { model: config.clone(), run: run(20, 2e-3), augment: Augment::default() };
    let unlabelled = PretrainData {
        source: &unlabelled,
        train: (0..n_others).collect(),
        sampling: Sampling::All,
        validation: Vec::new(),
        fingerprint: "simulated".into(),
    };
    let summary = pretrain(&settings, &unlabelled, &folder.join("pretrain"), false, &mut NoopObserver)?;
    let encoder = Model::from_weights(
        config.clone(),
        Task::Pretrained,
        &summary.weights.layout,
        &summary.weights.values,
    )?;
    writeln!(out, "2. Pre-trained without labels: error over hidden points {:.3}\n", summary.train_loss)?;

    // Whole people in every fold.
    let keys = Keys {
        subject: data.person.clone(),
        trial: data.trial.clone(),
        stimulus: Vec::new(),
        class: data.aroused.iter().map(|a| u32::from(*a)).collect(),
    };
    let split = Split::new(&keys, Protocol::KFold { group: Group::Subject, k: 3 }, 0.0, 1)?;
    let labelled = Labelled {
        source: &source,
        windows: (0..n).collect(),
        labels: data.aroused.clone().into(),
        split,
        fingerprint: "simulated".into(),
    };
    let settings = FinetuneSettings {
        model: config.clone(),
        run: run(25, 1e-3),
        augment: Augment::default(),
        balance: true,
        patience: None,
        encoder_rate: 1.0,
        final_model: true,
        test_precision: None,
    };
    // The head is new; everything else is taken from the encoder, by name.
    let initial = |layout: &heartlore::graph::Layout| {
        let (weights, report) = encoder.transfer(layout, 1)?;
        Ok((weights, report.taken))
    };
    let tuned = finetune(&settings, &labelled, &initial, &folder.join("finetune"), false, &mut NoopObserver)?;
    let pairs: Vec<(bool, f64)> = tuned.predictions.iter().map(|p| (p.label, p.probability)).collect();
    let accuracy = balanced_accuracy(&pairs);
    assert_eq!(pairs.len(), n, "every window is tested once, by a model that never saw its person");
    writeln!(out, "3. Fine-tuned over 3 folds of people: balanced accuracy {accuracy:.2} (chance 0.50)\n")?;
    assert!(accuracy > 0.6, "{accuracy}");

    // One more model on all windows, saved for use elsewhere.
    let weights = tuned.model.ok_or("a final model was asked for")?;
    let task = Task::Classifier { positive: "aroused".into(), negative: "calm".into(), threshold: 0.5 };
    let card = Card {
        training_data: vec![format!("{n} windows of {PEOPLE} simulated people")],
        simulated: true,
        metrics: vec![("balanced accuracy, 3 folds of people".into(), format!("{accuracy:.2}"))],
        // Whoever tests this model elsewhere can see whom it knows already.
        people: Some(
            [("simulated".to_string(), (1..=PEOPLE + UNLABELLED).map(|p| format!("sim{p:02}")).collect())]
                .into(),
        ),
        ..Card::default()
    };
    let dir = folder.join("model");
    Model::from_weights(config, task, &weights.layout, &weights.values)?.with_card(card).save(&dir)?;
    writeln!(out, "4. Saved and loaded again. The directory holds:\n")?;
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(&dir)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    names.iter().try_for_each(|name| writeln!(out, "   {name}"))?;

    // From here on nothing is needed but the directory.
    let model = Model::load(&dir)?;
    // The first window of each of the first person's four trials.
    let chosen: Vec<usize> = (0..4).map(|t| data.trial.iter().position(|x| *x == t).unwrap_or(0)).collect();
    let few: Vec<f32> =
        chosen.iter().flat_map(|i| data.windows[i * WINDOW..(i + 1) * WINDOW].to_vec()).collect();
    let probabilities = model.predict(&few)?;
    let features = model.embed(&few)?;
    assert_eq!(features.len(), 4 * model.config().width());
    writeln!(
        out,
        "\n5. Four windows: probability of aroused, and the first of {} features\n",
        model.config().width()
    )?;
    for (i, p) in probabilities.iter().enumerate() {
        let first: Vec<String> =
            features[i * model.config().width()..][..4].iter().map(|f| format!("{f:>6.2}")).collect();
        let state = if data.aroused[chosen[i]] { "aroused" } else { "calm" };
        writeln!(out, "   {state:<8} {p:.3}   {} ...", first.join(" "))?;
    }
    // A batch is only a matter of convenience: each window alone gives the same bits.
    for (i, p) in probabilities.iter().enumerate() {
        assert_eq!(model.predict(&few[i * WINDOW..(i + 1) * WINDOW])?, [*p]);
    }
    writeln!(out, "\n   All of it took {:.1} s.\n", start.elapsed().as_secs_f64())?;

    writeln!(out, "To see more, change this file:")?;
    writeln!(out, "  - strength: 1.0, the shift seen in life; then 0.0. What does the accuracy do?")?;
    writeln!(out, "  - start from layout.init(1) instead of the encoder: does pre-training help here?")?;
    writeln!(out, "  - Protocol::LeakingWindows {{ k: 3 }}: what does the figure say now, and what not?")?;
    Ok(())
}
