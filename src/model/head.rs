//! A linear head on more than the embedding: see [`super::reading`].

use super::reading::{self, Features, PHYSIOLOGY, Place, Reading, Reference, read_person};
use super::{Model, Output, Task, sigmoid};
use crate::error::{Error, Result};
use crate::nn;

/// The head of a model that reads a person's reference, heart rate or context.
#[derive(Clone, PartialEq, Debug)]
pub struct ReadingHead {
    /// What it reads.
    pub reading: Reading,
    /// What a missing value of the physiology stands for: the training part's means, one per [`Reading::physiology_inputs`].
    pub missing: Vec<f32>,
}

impl ReadingHead {
    /// # Errors
    /// Another number of means than the reading has values, or one that is not finite.
    pub(super) fn check(&self) -> Result<()> {
        let wanted = self.reading.physiology_inputs();
        if self.missing.len() != wanted || self.missing.iter().any(|v| !v.is_finite()) {
            return Err(Error::format(format!("{} means for {wanted} values", self.missing.len()))
                .at("head.missing")
                .remedy("use the files that were saved together"));
        }
        Ok(())
    }
}

/// Names of the head's parameters, as [`crate::nn::classify_read`] records them.
const WEIGHT: &str = "head.0.weight";
const BIAS: &str = "head.0.bias";

impl Model {
    /// This model's encoder under a linear head: the log-odds of `positive` are `weights` x + `bias`, x as
    /// [`super::reading`] lays it out for `head`. What the model had as a head goes.
    ///
    /// # Errors
    /// A number of weights other than the reading's, or values that are not finite.
    pub fn with_head(self, head: ReadingHead, task: Task, weights: &[f32], bias: f32) -> Result<Self> {
        head.check()?;
        let inputs = head.reading.inputs(self.config.features());
        if weights.len() != inputs {
            return Err(Error::shape(format!(
                "{} weights for a head that reads {inputs} values",
                weights.len()
            )));
        }
        let layout = nn::classify_read(&self.config, 1, inputs)?.graph.layout().clone();
        let mut values = vec![0.0; layout.len()];
        for entry in layout.entries() {
            let slot = &mut values[entry.range()];
            match (entry.name.as_str(), self.layout.find(&entry.name)) {
                (WEIGHT, _) => slot.copy_from_slice(weights),
                (BIAS, _) => slot[0] = bias,
                (_, Some(own)) => slot.copy_from_slice(&self.weights[own.range()]),
                (name, None) => return Err(Error::shape(format!("the model has no parameter {name}"))),
            }
        }
        let (preprocessing, card, threads) = (self.preprocessing, self.card, self.threads);
        let mut made = Self::assemble(self.config, task, layout, values)?;
        (made.preprocessing, made.card, made.threads) = (preprocessing, card, threads);
        made.head = Some(head);
        Ok(made)
    }

    /// What the head reads beside the embedding; `None` for a head on the embedding alone, and without a head.
    pub fn reading(&self) -> Option<&Reading> {
        self.head.as_ref().map(|h| &h.reading)
    }

    /// Embedding and physiology of windows `[n, window]`, each alone.
    ///
    /// # Errors
    /// As [`Model::embed`]; a model that does not know the rate of its windows.
    pub fn features(&self, windows: &[f32]) -> Result<Vec<Features>> {
        let fs_hz = self.preprocessing.as_ref().map(|p| p.rate_hz).ok_or_else(|| {
            Error::data("the model does not say at which rate its windows are: no heart rate can be measured")
                .remedy("put preprocessor_config.json beside config.json")
        })?;
        let embedded = self.embed(windows)?;
        let values = reading::measure(windows, self.config.window, fs_hz)?;
        let rows = embedded.chunks_exact(self.config.features());
        Ok(rows.zip(values).map(|(e, values)| Features { embedding: e.to_vec(), values }).collect())
    }

    /// The probability of the positive state for the windows of one person, `[n, window]` in the order in which they were
    /// recorded, at `places`. `rest` holds windows of the person's own rest, for a model that reads them. `None` where the
    /// person has too little past yet.
    ///
    /// # Errors
    /// As [`Model::predict`]; places that are not as many as windows; rest that is missing, or not asked for.
    pub fn predict_person(
        &self,
        windows: &[f32],
        places: &[Place<'_>],
        rest: Option<&[f32]>,
    ) -> Result<Vec<Option<f32>>> {
        let Some(head) = &self.head else {
            if rest.is_some() {
                return Err(no_reference_wanted());
            }
            return Ok(self.predict(windows)?.into_iter().map(Some).collect());
        };
        if rest.is_some() && head.reading.reference != Reference::Rest {
            return Err(no_reference_wanted());
        }
        let features = self.features(windows)?;
        if features.len() != places.len() {
            return Err(Error::shape(format!("{} windows at {} places", features.len(), places.len())));
        }
        let rest = match rest {
            Some(windows) => Features::mean(&self.features(windows)?),
            None => None,
        };
        let rows = read_person(&head.reading, self.window_s(), &features, places, rest.as_ref())?;
        Ok(rows.into_iter().map(|x| x.map(|x| sigmoid(self.head_logit(head, x)))).collect())
    }

    fn window_s(&self) -> f64 {
        self.preprocessing.as_ref().map_or(f64::NAN, |p| p.window as f64 / p.rate_hz)
    }

    /// w x + b with missing values filled in.
    fn head_logit(&self, head: &ReadingHead, mut x: Vec<f32>) -> f32 {
        x.iter_mut().zip(&head.missing).filter(|(x, _)| x.is_nan()).for_each(|(x, m)| *x = *m);
        let get = |name: &str| self.layout.find(name).map_or(&[][..], |e| &self.weights[e.range()]);
        let sum: f64 = get(WEIGHT).iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
        (sum + get(BIAS).iter().map(|b| f64::from(*b)).sum::<f64>()) as f32
    }

    /// The log-odds of each window alone, for a head that needs neither reference nor context.
    pub(super) fn read_logits(&self, head: &ReadingHead, windows: &[f32]) -> Result<Vec<f32>> {
        if head.reading.reference != Reference::None || head.reading.context_s > 0.0 {
            return Err(Error::usage(format!(
                "this model cannot judge windows alone; it reads {}",
                head.reading
            ))
            .remedy(
                "hand over a person's windows in order, and the person's rest if it reads that: \
                         Model::predict_person, or `heartlore predict --rest FILE`",
            ));
        }
        let rows = self.features(windows)?;
        let read = |f: Features| {
            let place = Place { record: "", start_s: 0.0 };
            let x = read_person(&head.reading, self.window_s(), &[f], &[place], None)?.pop().flatten();
            Ok(x.map_or(f32::NAN, |x| self.head_logit(head, x)))
        };
        rows.into_iter().map(read).collect()
    }
}

fn no_reference_wanted() -> Error {
    Error::usage("this model reads no rest")
        .remedy("leave the rest out, or use a model trained with --reference rest")
}

/// The place of a session's output that only [`Model::predict_person`] can give.
pub(super) fn no_session() -> Error {
    Error::usage(format!(
        "the head of this model reads {} and more beside the embedding: one window is not enough",
        PHYSIOLOGY[0]
    ))
    .remedy("use Model::predict or Model::predict_person, or the features (Output::Features)")
}

/// What a session of `output` is refused with, if the model's head reads more than its program gives.
pub(super) fn refuse_session(model: &Model, output: Output) -> Result<()> {
    if output == Output::Logit && model.head.is_some() { Err(no_session()) } else { Ok(()) }
}
