//! What a run's result depends on, field by field: a resumed run must share it with the interrupted one.
//!
//! [`RunFingerprint`] holds the settings by name, the instruction set that was resolved, the version of the library, and
//! hashes of the data: which windows are trained on, validated on and tested, their labels, the weights that training
//! starts from. It is stored with every checkpoint, as JSON under the key [`RunFingerprint::KEY`]. Threads and the interval
//! of checkpoints are left out: the result does not depend on them.
//!
//! **Old runs.** The first thing compared is the version of the library, since no two versions promise the same bits: a run
//! begun with another one is refused, and the message says which version can finish it. So a field that is renamed,
//! added or dropped never breaks a run silently: between versions the version speaks first, and within a version a field
//! that only one side has is a difference like any other. Runs of 0.1 have a text in place of this
//! ([`RunFingerprint::OLD_KEY`]) and are refused in the same words.

use super::{AdamSettings, Augment, Run};
use crate::checkpoint::State;
use crate::checkpoint::hash::Fnv64;
use crate::checkpoint::json::Value;
use crate::data::batch::Sampling;
use crate::error::{Error, Result};
use crate::nn::{MaskConfig, ModelConfig};
use std::fmt::Debug;
use std::path::Path;

/// What a run's result depends on: names and values, in the order in which they are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFingerprint {
    fields: Vec<(String, String)>,
}

/// A field in which two runs differ.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// Name of the field.
    pub field: String,
    /// The value of the run that was interrupted; `None` if it has no such field.
    pub then: Option<String>,
    /// The value now; `None` if there is no such field now.
    pub now: Option<String>,
}

const VERSION: &str = "heartlore_version";
const ISA: &str = "run.instruction_set";

impl RunFingerprint {
    /// Where a state keeps it.
    pub const KEY: &str = "fingerprint";
    /// Where states of version 0.1 keep their text.
    pub const OLD_KEY: &str = "essence";

    /// Begins with the kind of run, the version and the settings that every run has.
    ///
    /// # Errors
    /// An instruction set that this CPU has not.
    pub(crate) fn new(job: &str, model: &ModelConfig, run: &Run, augment: &Augment) -> Result<Self> {
        let mut this = Self { fields: Vec::new() };
        this.put(VERSION, env!("CARGO_PKG_VERSION"));
        this.put("job", job);
        this.model(model);
        this.run(run)?;
        let Augment { shift, noise, scale, drift, flip } = augment;
        this.debug("augment.shift", shift);
        this.debug("augment.noise", noise);
        this.debug("augment.scale", scale);
        this.debug("augment.drift", drift);
        this.debug("augment.flip", flip);
        Ok(this)
    }

    /// The fields with their values.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Adds a field.
    pub(crate) fn put(&mut self, name: &str, value: impl Into<String>) {
        self.fields.push((name.into(), value.into()));
    }

    /// Adds a field by its debug text, which tells any two values apart: floats have all digits there.
    pub(crate) fn debug(&mut self, name: &str, value: impl Debug) {
        self.put(name, format!("{value:?}"));
    }

    /// Adds the hash and the number of `rows` of a store.
    pub(crate) fn rows(&mut self, name: &str, rows: impl ExactSizeIterator<Item = usize>) {
        let (n, mut hash) = (rows.len(), Fnv64::default());
        rows.for_each(|row| hash.update(&(row as u64).to_le_bytes()));
        self.put(name, format!("{n} windows, {:016x}", hash.value()));
    }

    /// Adds the hash of numbers, bit for bit.
    pub(crate) fn floats(&mut self, name: &str, values: &[f32]) {
        let mut hash = Fnv64::default();
        values.iter().for_each(|v| hash.update(&v.to_bits().to_le_bytes()));
        self.put(name, format!("{} numbers, {:016x}", values.len(), hash.value()));
    }

    /// Adds the hash of the text that tells `value` apart.
    pub(crate) fn hashed(&mut self, name: &str, value: impl Debug) {
        self.put(name, format!("{:016x}", crate::checkpoint::hash::hash(format!("{value:?}").as_bytes())));
    }

    /// Adds how an epoch draws its windows.
    pub(crate) fn sampling(&mut self, sampling: &Sampling) {
        match sampling {
            Sampling::All => self.put("sampling", "all"),
            Sampling::Capped { groups, cap } => {
                self.put("sampling", format!("at most {cap} of a group"));
                self.hashed("sampling.groups", groups);
            }
            Sampling::Weighted { weights, draws } => {
                self.put("sampling", format!("{draws} draws by weight"));
                self.hashed("sampling.weights", weights);
            }
        }
    }

    fn model(&mut self, c: &ModelConfig) {
        // Taken apart without `..`, here and below, so that a new setting cannot be forgotten.
        let ModelConfig {
            window,
            channels,
            kernels,
            strides,
            encoder_norm,
            layers,
            heads,
            hidden,
            activation,
            norm_order,
            positions,
            embed_norm,
            cls,
            pooling,
            dropout,
            attention_dropout,
            norm_eps,
            head_hidden,
            head_dropout,
            mask: MaskConfig { probability, span },
        } = c;
        self.debug("model.window", window);
        self.debug("model.channels", channels);
        self.debug("model.kernels", kernels);
        self.debug("model.strides", strides);
        self.debug("model.encoder_norm", encoder_norm);
        self.debug("model.layers", layers);
        self.debug("model.heads", heads);
        self.debug("model.hidden", hidden);
        self.debug("model.activation", activation);
        self.debug("model.norm_order", norm_order);
        self.debug("model.positions", positions);
        self.debug("model.embed_norm", embed_norm);
        self.debug("model.cls", cls);
        self.debug("model.pooling", pooling);
        self.debug("model.dropout", dropout);
        self.debug("model.attention_dropout", attention_dropout);
        self.debug("model.norm_eps", norm_eps);
        self.debug("model.head_hidden", head_hidden);
        self.debug("model.head_dropout", head_dropout);
        self.debug("model.mask.probability", probability);
        self.debug("model.mask.span", span);
    }

    fn run(&mut self, r: &Run) -> Result<()> {
        let Run {
            seed,
            threads: _,
            shards,
            group,
            batch,
            epochs,
            schedule,
            adam: AdamSettings { beta1, beta2, eps, weight_decay, decoupled },
            clip_norm,
            precision,
            checkpoint_every: _,
            isa: _,
        } = r;
        self.put(ISA, r.isa()?.name());
        self.debug("run.seed", seed);
        self.debug("run.shards", shards);
        self.debug("run.group", group);
        self.debug("run.batch", batch);
        self.debug("run.epochs", epochs);
        self.debug("run.schedule", schedule);
        self.debug("run.adam.beta1", beta1);
        self.debug("run.adam.beta2", beta2);
        self.debug("run.adam.eps", eps);
        self.debug("run.adam.weight_decay", weight_decay);
        self.debug("run.adam.decoupled", decoupled);
        self.debug("run.clip_norm", clip_norm);
        self.debug("run.precision", precision);
        Ok(())
    }

    /// As one line of JSON.
    ///
    /// # Errors
    /// None that can happen: all values are texts.
    pub fn to_text(&self) -> Result<String> {
        let member = |(name, value): &(String, String)| (name.clone(), Value::String(value.clone()));
        Value::Object(self.fields.iter().map(member).collect()).to_compact()
    }

    /// Reads what [`RunFingerprint::to_text`] wrote.
    ///
    /// # Errors
    /// [`crate::error::Kind::Format`] for anything but an object of texts.
    pub fn from_text(text: &str) -> Result<Self> {
        let bad = || {
            Error::format("not a run's fingerprint")
                .remedy("the file is damaged: use the previous checkpoint")
        };
        let value = Value::parse(text.as_bytes())?;
        let member = |(name, value): &(String, Value)| Some((name.clone(), value.as_str()?.to_string()));
        let fields = value.as_object().ok_or_else(bad)?.iter().map(member).collect::<Option<_>>();
        Ok(Self { fields: fields.ok_or_else(bad)? })
    }

    /// The first field in which the run that `then` was saved with differs from this one.
    pub fn difference(&self, then: &Self) -> Option<Difference> {
        let of = |all: &Self, name: &str| all.fields().find(|(n, _)| *n == name).map(|(_, v)| v.to_string());
        self.fields().chain(then.fields()).find_map(|(name, _)| {
            let (then, now) = (of(then, name), of(self, name));
            (then != now).then(|| Difference { field: name.to_string(), then, now })
        })
    }

    /// Stores the fingerprint in `state`.
    pub(crate) fn save(&self, state: &mut State) -> Result<()> {
        state.strings.insert(Self::KEY.into(), self.to_text()?);
        Ok(())
    }

    /// Refuses a `state` of another run; `file` is named.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] with the field and both values.
    pub(crate) fn check(&self, state: &State, file: &Path) -> Result<()> {
        let then = match state.strings.get(Self::KEY) {
            Some(text) => Self::from_text(text).map_err(|e| e.in_file(file))?,
            None if state.strings.contains_key(Self::OLD_KEY) => {
                Self { fields: vec![(VERSION.into(), "0.1".into())] }
            }
            None => return Err(Error::format("the state does not say of which run it is").in_file(file)),
        };
        let Some(Difference { field, then, now }) = self.difference(&then) else { return Ok(()) };
        let (then, now) = (then.as_deref().unwrap_or("not set"), now.as_deref().unwrap_or("not set"));
        let remedy = match field.as_str() {
            VERSION => format!(
                "finish the run with heartlore {then}, or start a new one in another directory: \
                 no two versions promise the same bits"
            ),
            ISA => format!("go on with the instruction set {then}, or start a new run in another directory"),
            _ => "resume with the run's own settings, data and initial weights, or start a new run in another directory"
                .into(),
        };
        Err(Error::usage(format!("the run was started with {then}, now it is {now}"))
            .values(then, now)
            .in_file(file)
            .at(field)
            .remedy(remedy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[(&str, &str)]) -> RunFingerprint {
        RunFingerprint { fields: fields.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect() }
    }

    #[test]
    fn comes_back_and_names_the_first_difference() {
        let a = of(&[(VERSION, "1"), ("x", "say \"so\"\n"), ("y", "2")]);
        assert_eq!(RunFingerprint::from_text(&a.to_text().unwrap()).unwrap(), a);
        assert_eq!(a.difference(&a), None);
        let differs = |b: &RunFingerprint| a.difference(b).map(|d| (d.field, d.then, d.now));
        let some = |v: &str| Some(v.to_string());
        // A renamed field shows as one that only this side has; the version speaks before it.
        let renamed = of(&[(VERSION, "1"), ("x", "say \"so\"\n"), ("z", "2")]);
        assert_eq!(differs(&renamed), Some(("y".into(), None, some("2"))));
        let dropped = of(&[(VERSION, "1"), ("x", "say \"so\"\n"), ("y", "2"), ("z", "3")]);
        assert_eq!(differs(&dropped), Some(("z".into(), some("3"), None)));
        let older = of(&[(VERSION, "0"), ("z", "2")]);
        assert_eq!(differs(&older), Some((VERSION.into(), some("0"), some("1"))));
        for text in ["", "[]", "{\"a\":1}", "{"] {
            assert!(RunFingerprint::from_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_run_of_the_first_version_is_refused_by_its_version() {
        let mut state = State::default();
        state.strings.insert(RunFingerprint::OLD_KEY.into(), "pretrain ModelConfig { .. }".into());
        let e = of(&[(VERSION, "0.2.0")]).check(&state, Path::new("last.ckpt")).unwrap_err().to_string();
        for part in
            ["last.ckpt", VERSION, "started with 0.1, now it is 0.2.0", "finish the run with heartlore 0.1"]
        {
            assert!(e.contains(part), "no '{part}' in {e}");
        }
    }
}
