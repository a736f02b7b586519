//! `preprocessor_config.json`: how the windows a model was trained on were made.

use super::fields::{Fields, HUGGING_FACE, int, object, text};
use crate::checkpoint::json::Value;
use crate::error::{Error, Result};
use crate::signal::{BandPass, Normalisation, Preparation, QualitySettings};

/// How windows are made: everything that decides a window's values.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocessing {
    /// Samples per second of the windows.
    pub rate_hz: f64,
    /// Samples per window.
    pub window: usize,
    /// Samples from one window's start to the next, as in training.
    pub hop: usize,
    /// The filter, applied at the recording's own rate before resampling; or none.
    pub filter: Option<BandPass>,
    /// Over what each window is centred and scaled, last of all.
    pub normalisation: Normalisation,
    /// Unit of a window's values: `mV`, `z-score` or `arbitrary`.
    pub unit: String,
    /// Which windows were left out of training, and so which to doubt in use.
    pub quality_gate: QualityGate,
}

/// The quality gate that the windows of training had to pass.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum QualityGate {
    /// Not recorded: a model of version 0.1. It is used with the default thresholds.
    #[default]
    Unknown,
    /// No window was left out.
    Off,
    /// These thresholds.
    On(QualitySettings),
}

impl QualityGate {
    /// The thresholds to judge windows by; `None` to keep all.
    pub fn settings(&self) -> Option<QualitySettings> {
        match self {
            Self::Unknown => Some(QualitySettings::default()),
            Self::Off => None,
            Self::On(settings) => Some(*settings),
        }
    }
}

impl Preprocessing {
    /// The same in the signal room's words.
    pub fn preparation(&self) -> Preparation {
        Preparation {
            rate_hz: self.rate_hz,
            filter: self.filter,
            window: self.window,
            hop: self.hop,
            normalisation: self.normalisation,
            quality: self.quality_gate.settings(),
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let filter = self.filter.map_or(Value::Null, |f| {
            object([
                ("type", text("butterworth band-pass")),
                ("order", int(f.order)),
                ("low_hz", Value::Float(f.low_hz)),
                ("high_hz", Value::Float(f.high_hz)),
                ("zero_phase", Value::Bool(f.zero_phase)),
            ])
        });
        let gate = match &self.quality_gate {
            QualityGate::Unknown => None,
            QualityGate::Off => Some(Value::Null),
            QualityGate::On(settings) => Some(Value::Object(
                settings.named().into_iter().map(|(name, v)| (name.to_string(), Value::Float(v))).collect(),
            )),
        };
        let Value::Object(mut members) = object([
            ("feature_extractor_type", text("heartlore")),
            ("rate_hz", Value::Float(self.rate_hz)),
            ("window", int(self.window)),
            ("hop", int(self.hop)),
            ("filter", filter),
            ("normalisation", text(&self.normalisation.to_string())),
            ("unit", text(&self.unit)),
        ]) else {
            return Value::Null; // `object` makes objects
        };
        members.extend(gate.map(|gate| ("quality_gate".to_string(), gate)));
        Value::Object(members)
    }

    /// With the keys that were set aside.
    pub(super) fn from_json(value: Value) -> Result<(Self, Vec<String>)> {
        let mut f = Fields::new(value, "")?;
        let foreign = f.set_aside(&HUGGING_FACE);
        f.choice("feature_extractor_type", &[("heartlore", ())])?;
        let rate_hz = f.f64("rate_hz")?;
        let (window, hop) = (f.usize("window")?, f.usize("hop")?);
        let filter = match f.take("filter")? {
            Value::Null => None,
            value => {
                let mut g = Fields::new(value, "filter")?;
                g.choice("type", &[("butterworth band-pass", ())])?;
                let filter = BandPass {
                    order: g.usize("order")?,
                    low_hz: g.f64("low_hz")?,
                    high_hz: g.f64("high_hz")?,
                    zero_phase: g.bool("zero_phase")?,
                };
                g.finish()?;
                Some(filter)
            }
        };
        let all =
            [Normalisation::None, Normalisation::Window, Normalisation::Recording, Normalisation::Subject];
        let names = all.map(|n| (n.to_string(), n));
        let names: Vec<(&str, Normalisation)> = names.iter().map(|(s, n)| (s.as_str(), *n)).collect();
        let normalisation = f.choice("normalisation", &names)?;
        let unit = f.string("unit")?;
        let quality_gate = match f.optional("quality_gate") {
            None => QualityGate::Unknown,
            Some(Value::Null) => QualityGate::Off,
            Some(value) => {
                let mut g = Fields::new(value, "quality_gate")?;
                let mut fault = None;
                let settings = QualitySettings::from_named(|name| match g.f64(name) {
                    Ok(value) => Some(value),
                    Err(e) => {
                        fault.get_or_insert(e);
                        None
                    }
                });
                let Some(settings) = settings else {
                    let e = || Error::format("min_beats is no number of beats").at("quality_gate");
                    return Err(fault.unwrap_or_else(e));
                };
                g.finish()?;
                QualityGate::On(settings)
            }
        };
        f.finish()?;
        Ok((Self { rate_hz, window, hop, filter, normalisation, unit, quality_gate }, foreign))
    }

    /// From the manifest of the prepared store a model is trained on.
    ///
    /// # Errors
    /// A normalisation of no known name.
    #[cfg(feature = "formats")]
    pub fn of_store(manifest: &crate::data::manifest::Manifest) -> Result<Self> {
        let p = &manifest.processing;
        Ok(Self {
            rate_hz: p.rate_hz,
            window: p.window,
            hop: p.hop,
            filter: p.filter.as_ref().map(|f| BandPass {
                order: f.order,
                low_hz: f.low_hz,
                high_hz: f.high_hz,
                zero_phase: f.zero_phase,
            }),
            normalisation: p.normalisation.parse()?,
            unit: manifest.unit.clone(),
            quality_gate: match &manifest.quality_gate {
                serde_json::Value::Null => QualityGate::Off,
                gate => QualitySettings::from_named(|name| gate[name].as_f64())
                    .map_or(QualityGate::Unknown, QualityGate::On),
            },
        })
    }

    /// The same in the data room's words, to compare with a store or to prepare a recording.
    #[cfg(feature = "formats")]
    pub fn processing(&self) -> crate::data::manifest::Processing {
        crate::data::manifest::Processing {
            rate_hz: self.rate_hz,
            window: self.window,
            hop: self.hop,
            filter: self.filter.map(|f| crate::data::manifest::Filter {
                order: f.order,
                low_hz: f.low_hz,
                high_hz: f.high_hz,
                zero_phase: f.zero_phase,
            }),
            normalisation: self.normalisation.to_string(),
        }
    }
}
