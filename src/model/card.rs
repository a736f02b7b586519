//! The model card: what a stranger must know before using the model.

use super::{Model, Task};
use std::fmt::Write;

use super::provenance::{People, Provenance, count};

/// What the card says beyond what the model knows of itself. All of it is the trainer's word.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Card {
    /// What the model was trained on, one line per data set or step.
    pub training_data: Vec<String>,
    /// Whether any of it is simulated.
    pub simulated: bool,
    /// Results as (name, value with interval and protocol).
    pub metrics: Vec<(String, String)>,
    /// Further lines, such as attributions the data's licences ask for.
    pub notes: Vec<String>,
    /// Licence of the weights.
    pub licence: Option<String>,
    /// Everybody whose recordings, labelled or not, reached the weights, by the names their data set gives them; `None`
    /// where that is not known. Whoever tests the model on one of them tests it on a person it has seen.
    pub people: Option<People>,
    /// The same by content, and whose labels they saw: kept in `provenance.json`.
    pub provenance: Provenance,
}

/// The text of `README.md`.
pub(super) fn readme(model: &Model) -> String {
    let mut out = String::new();
    let c = &model.config;
    let card = &model.card;
    // Writing to a String cannot fail.
    let mut line = |text: String| {
        let _ = writeln!(out, "{text}");
    };
    line("---\nlibrary_name: heartlore\ntags:\n- ecg\n- emotion-recognition\n---\n".into());
    match &model.task {
        Task::Pretrained => {
            line("# ECG transformer, pre-trained\n".into());
            line("Learnt, without labels, to reconstruct hidden points of single-lead ECG. It is the start for".into());
            line("fine-tuning and a source of features; it tells no emotion by itself.\n".into());
        }
        Task::Encoder => {
            line("# ECG transformer, pre-trained: an encoder\n".into());
            line("Learnt, without labels, to tell what beat detectors measure on single-lead ECG (heart rate, its".into());
            line("variability, where the beats are). It is the start for fine-tuning and a source of features; it tells".into());
            line("no emotion by itself.\n".into());
        }
        Task::Classifier { positive, negative, threshold } => {
            line(format!("# ECG transformer: {positive} or {negative}\n"));
            line(format!(
                "Gives the probability that a window of single-lead ECG was recorded in the state \"{positive}\""
            ));
            line(format!(
                "rather than \"{negative}\". A probability of at least {threshold} counts as \"{positive}\".\n"
            ));
        }
    }
    if card.simulated {
        line(
            "**Trained on simulated ECG, in part or in whole.** What it says of real hearts is not known.\n"
                .into(),
        );
    }
    line("## Model\n".into());
    line(format!(
        "A 1D-CNN (channels {:?}, kernels {:?}, strides {:?}) and a transformer encoder ({} layers, {} heads, width {}, \
         feed-forward {}); {} parameters. One window has {} samples. All settings are in `config.json`.\n",
        c.channels,
        c.kernels,
        c.strides,
        c.layers,
        c.heads,
        c.width(),
        c.hidden,
        model.parameters(),
        c.window
    ));
    line("## Windows\n".into());
    match &model.preprocessing {
        None => line("How its windows were prepared is not known.\n".into()),
        Some(p) => {
            let filter = p.filter.map_or("no filter".to_string(), |f| {
                let phase = if f.zero_phase { "zero-phase" } else { "causal" };
                format!(
                    "{phase} Butterworth band-pass {} to {} Hz (order {} per edge)",
                    f.low_hz, f.high_hz, f.order
                )
            });
            line(format!(
                "{filter}; {} Hz; {} samples ({} s) every {}; normalised over: {}; unit: {}.\n",
                p.rate_hz,
                p.window,
                p.window as f64 / p.rate_hz,
                p.hop,
                p.normalisation,
                p.unit
            ));
        }
    }
    line("## Training data\n".into());
    if card.training_data.is_empty() {
        line("Not stated.".into());
    }
    card.training_data.iter().for_each(|d| line(format!("- {d}")));
    if let Some(people) = &card.people {
        let counts = people.iter().map(|(dataset, names)| format!("{} of '{dataset}'", names.len()));
        line(format!(
            "\nPeople whose recordings reached the weights: {}. Their names in the data sets are in `config.json`: a test \
             on them is no test on new people.",
            counts.collect::<Vec<_>>().join(", ")
        ));
    }
    let p = &card.provenance;
    if p.complete {
        line(format!(
            "\nThe {} recordings themselves are known by hashes of their files and samples, in `provenance.json`.",
            p.recordings.len()
        ));
    } else {
        line("\nWhich recordings they are is not known by content, or not of all of them.".into());
    }
    match (&p.labelled_people, &model.task) {
        (Some(people), _) if count(people) > 0 => {
            line(format!("Labels of {} people reached the weights.", count(people)));
        }
        (Some(_), Task::Pretrained) => line("No label reached the weights.".into()),
        _ => line("Whose labels reached the weights is not known.".into()),
    }
    line("\n## Results\n".into());
    if card.metrics.is_empty() {
        line("None recorded.".into());
    } else {
        line("| measure | value |\n|---|---|".into());
    }
    card.metrics.iter().for_each(|(name, value)| line(format!("| {} | {} |", cell(name), cell(value))));
    line("\n## Limits\n".into());
    line("- Not a medical device; not for diagnosis, treatment, or decisions about people.".into());
    line("- Valid for recordings like those it was trained on; other electrodes, devices and people may differ.".into());
    line("- Heart activity has many causes besides emotion: movement, posture, caffeine, illness.".into());
    line(
        "- A probability is the model's output, not a calibrated frequency, unless the results above say so."
            .into(),
    );
    if !card.notes.is_empty() {
        line("\n## Notes\n".into());
        card.notes.iter().for_each(|n| line(format!("- {n}")));
    }
    line("\n## Licence\n".into());
    line(card.licence.clone().unwrap_or_else(|| "Of the weights: not stated.".into()));
    line("\n## Citation\n".into());
    line("The method follows J. Vazquez-Rodriguez, G. Lefebvre, J. Cumin, J. L. Crowley, \"Transformer-Based Self-Supervised".into());
    line("Learning for Emotion Recognition\", ICPR 2022, doi:10.1109/ICPR56361.2022.9956027, arXiv:2204.05103. This model was".into());
    line("not made or checked by its authors.".into());
    out
}

/// Text that stays inside one cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
