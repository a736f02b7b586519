//! # Lesson 7: mask and reconstruct
//!
//! Run it: `cargo run --release --no-default-features --example 07_mask_and_reconstruct`
//!
//! Labels are rare; recordings are not. So the model first learns from unlabelled ECG by a game that needs no labels: hide
//! spans of the signal, guess them from the rest. To guess well it must know where beats come from what went before, how
//! waves look, how one person's beats resemble each other.
//!
//! ```text
//! mask    a span of 20 points starts at each point with probability 0.0325; spans overlap; about half is hidden
//! input   the window, hidden points set to 0
//! loss    mean squared error over the hidden points only: what the model sees anyway teaches nothing
//! ```
//!
//! The ECG is **simulated** ([`heartlore::signal::simulate`], the dynamical model of McSharry et al. 2003), so that the
//! lesson needs no files. Windows have zero mean and unit variance; the guess "0 everywhere" therefore has an error near 1
//! and is the first thing to beat. The second is a straight line from the last point before a hidden span to the first
//! one after it, which needs no learning.

use heartlore::Model;
use heartlore::data::batch::Sampling;
use heartlore::data::source::MemoryWindows;
use heartlore::graph::MatmulPrecision;
use heartlore::model::Task;
use heartlore::nn::{Key, ModelConfig, spans};
use heartlore::optim::Schedule;
use heartlore::signal::simulate::SimulatedStudy;
use heartlore::signal::{Band, Scaler, butterworth, sosfiltfilt, windows};
use heartlore::train::{
    AdamSettings, Augment, Control, Event, PretrainData, PretrainSettings, Run, pretrain,
};
use std::error::Error;
use std::io::Write;
use std::time::Instant;

/// Samples of a window: 5 s at 128 Hz.
const WINDOW: usize = 640;
const FS_HZ: f64 = 128.0;
/// Simulated people; the last is kept out of training.
const PEOPLE: usize = 9;
const EPOCHS: u64 = 40;

fn main() -> Result<(), Box<dyn Error>> {
    lesson(&mut std::io::stdout().lock())
}

/// The windows of one simulated person, filtered, cut and normalised one by one.
fn person(study: &SimulatedStudy, subject: usize) -> heartlore::Result<Vec<f32>> {
    let filter = butterworth(4, Band::Bandpass { low_hz: 0.8, high_hz: 50.0 }, FS_HZ)?;
    let mut out = Vec::new();
    for trial in 0..study.trials {
        let x = sosfiltfilt(&filter, &study.trial(subject, trial)?.ecg.signal_mv)?;
        for place in windows(&x, WINDOW, WINDOW)?.windows {
            let mut window = x[place.range()].to_vec();
            Scaler::z_score(&window)?.apply(&mut window);
            out.extend(window.iter().map(|v| *v as f32));
        }
    }
    Ok(out)
}

/// Mean squared error over the hidden points.
fn error(truth: &[f32], guess: &[f32], hidden: &[bool]) -> f64 {
    let squares = truth.iter().zip(guess).zip(hidden).filter(|(_, h)| **h);
    let squares: Vec<f64> = squares.map(|((t, g), _)| f64::from(t - g).powi(2)).collect();
    squares.iter().sum::<f64>() / squares.len() as f64
}

/// A straight line across every hidden span; at the edges the nearest visible point.
fn straight_lines(window: &[f32], hidden: &[bool]) -> Vec<f32> {
    let seen: Vec<usize> = (0..window.len()).filter(|i| !hidden[*i]).collect();
    (0..window.len())
        .map(|i| {
            let after = seen.partition_point(|s| *s < i);
            match (after.checked_sub(1).map(|b| seen[b]), seen.get(after)) {
                (Some(a), Some(&b)) => window[a] + (window[b] - window[a]) * (i - a) as f32 / (b - a) as f32,
                (Some(a), None) => window[a],
                (None, Some(&b)) => window[b],
                (None, None) => 0.0,
            }
        })
        .collect()
}

/// The lesson.
pub(crate) fn lesson(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    writeln!(out, "LESSON 7: MASK AND RECONSTRUCT (on simulated ECG)\n")?;
    let study = SimulatedStudy { subjects: PEOPLE, trials: 2, trial_s: 60.0, ..SimulatedStudy::default() };
    let mut train = Vec::new();
    for subject in 0..PEOPLE - 1 {
        train.extend(person(&study, subject)?);
    }
    let unseen = person(&study, PEOPLE - 1)?;
    let source = MemoryWindows::new(train, WINDOW)?;
    let n = 24 * (PEOPLE - 1);
    writeln!(
        out,
        "{} simulated people, {n} windows of 5 s to learn from; one more person to test on.\n",
        PEOPLE - 1
    )?;

    let config = ModelConfig { window: WINDOW, ..ModelConfig::tiny() };
    // The masks of the test: drawn once, from a stream no training step uses.
    let mut hidden = vec![false; unseen.len()];
    for (i, part) in hidden.chunks_mut(WINDOW).enumerate() {
        spans(&config.mask, Key { seed: 99, sample: i as u32, ..Key::default() }, WINDOW, part);
    }
    let share = hidden.iter().filter(|h| **h).count() as f64 / hidden.len() as f64;
    let expected = config.mask.expected_share(WINDOW);
    writeln!(out, "1. Hidden: {:.1} % of the points (expected {:.1} %)\n", 100.0 * share, 100.0 * expected)?;
    assert!((share - expected).abs() < 0.05);

    let before = Model::init(config.clone(), Task::Pretrained, 1)?;
    let start = Instant::now();
    writeln!(out, "2. Training {} parameters for {EPOCHS} epochs\n", before.parameters())?;
    let settings = PretrainSettings {
        model: config.clone(),
        run: Run {
            seed: 1,
            threads: 0,
            shards: 8,
            group: 4,
            batch: 32,
            epochs: EPOCHS,
            schedule: Schedule::Linear { rate: 2e-3, warmup: 4, total: EPOCHS },
            adam: AdamSettings::default(),
            clip_norm: Some(1.0),
            precision: MatmulPrecision::F32,
            checkpoint_every: 0,
            isa: None,
        },
        augment: Augment::default(),
    };
    let data = PretrainData {
        source: &source,
        train: (0..n).collect(),
        sampling: Sampling::All,
        validation: Vec::new(),
        fingerprint: "simulated".into(),
    };
    let mut curve = Vec::new();
    let mut observer = |event: &Event| {
        if let Event::Epoch { epoch, train_loss, .. } = event {
            curve.push((*epoch, *train_loss));
        }
        Control::Continue
    };
    let folder = std::env::temp_dir().join(format!("heartlore-lesson-7-{}", std::process::id()));
    let summary = pretrain(&settings, &data, &folder, false, &mut observer);
    std::fs::remove_dir_all(&folder)?; // the checkpoints, which this lesson does not need
    let weights = summary?.weights;
    for (epoch, loss) in curve.iter().filter(|(e, _)| e % 8 == 0 || *e + 1 == EPOCHS) {
        writeln!(out, "   epoch {:>3}   mean squared error over hidden points {loss:.3}", epoch + 1)?;
    }
    writeln!(out, "\n   It took {:.1} s.\n", start.elapsed().as_secs_f64())?;

    let after = Model::from_weights(config, Task::Pretrained, &weights.layout, &weights.values)?;
    let of = |model: &Model| -> heartlore::Result<f64> {
        Ok(error(&unseen, &model.reconstruct(&unseen, &hidden)?, &hidden))
    };
    let zero = error(&unseen, &vec![0.0; unseen.len()], &hidden);
    let lines: Vec<f32> =
        unseen.chunks(WINDOW).zip(hidden.chunks(WINDOW)).flat_map(|(x, h)| straight_lines(x, h)).collect();
    let lines = error(&unseen, &lines, &hidden);
    let (untrained, trained) = (of(&before)?, of(&after)?);
    writeln!(out, "3. The person never seen: mean squared error over hidden points\n")?;
    writeln!(out, "   guess 0               {zero:.3}")?;
    writeln!(out, "   straight lines        {lines:.3}")?;
    writeln!(out, "   untrained model       {untrained:.3}")?;
    writeln!(out, "   trained model         {trained:.3}\n")?;
    assert!(trained < 0.9 * zero && trained < untrained, "{trained} against {zero} and {untrained}");

    // The same window twice, the hidden part filled with something else: the model cannot tell.
    let mut other = unseen[..WINDOW].to_vec();
    other.iter_mut().zip(&hidden).filter(|(_, h)| **h).for_each(|(x, _)| *x = 7.0);
    let mask = &hidden[..WINDOW];
    assert_eq!(after.reconstruct(&other, mask)?, after.reconstruct(&unseen[..WINDOW], mask)?);
    writeln!(
        out,
        "4. What is hidden is hidden: other values there give the same reconstruction to the bit.\n"
    )?;

    writeln!(out, "To see more, change this file:")?;
    writeln!(out, "  - EPOCHS = 200: how far below the straight lines does it get?")?;
    writeln!(
        out,
        "  - mask.span = 100 in the configuration: almost a whole beat is hidden. What is left to guess from?"
    )?;
    writeln!(out, "Next: 08_finetune_and_embed, from this start to a label.")?;
    Ok(())
}
