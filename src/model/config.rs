//! `config.json`: the configuration, the task and what the card says.

use super::fields::{Fields, HUGGING_FACE, int, ints, object, text, texts};
use super::provenance::{Provenance, people_from_json, people_to_json};
use super::reading::{Reading, Reference};
use super::{Card, ReadingHead, Task};
use crate::checkpoint::json::Value;
use crate::error::{Error, Result};
use crate::kernels::activation::Activation;
use crate::nn::{EncoderNorm, MaskConfig, ModelConfig, NormOrder, Pooling, Positions};

/// Version of the layout of `config.json`.
const FORMAT_VERSION: usize = 1;

const ENCODER_NORM: [(&str, EncoderNorm); 3] =
    [("none", EncoderNorm::None), ("first", EncoderNorm::First), ("every", EncoderNorm::Every)];
const ACTIVATION: [(&str, Activation); 5] = [
    ("relu", Activation::Relu),
    ("gelu", Activation::Gelu),
    ("gelu_tanh", Activation::GeluTanh),
    ("sigmoid", Activation::Sigmoid),
    ("tanh", Activation::Tanh),
];
const NORM_ORDER: [(&str, NormOrder); 2] = [("post", NormOrder::Post), ("pre", NormOrder::Pre)];
const POSITIONS: [(&str, Positions); 3] =
    [("sinusoidal", Positions::Sinusoidal), ("learned", Positions::Learned), ("none", Positions::None)];
const POOLING: [(&str, Pooling); 5] = [
    ("cls", Pooling::Cls),
    ("mean", Pooling::Mean),
    ("max", Pooling::Max),
    ("last", Pooling::Last),
    ("mean_deviation", Pooling::MeanDeviation),
];

/// The name of a choice. The tables above are complete; a test walks them.
fn name<T: PartialEq>(choices: &[(&'static str, T)], value: &T) -> Value {
    choices.iter().find(|(_, v)| v == value).map_or(Value::Null, |(name, _)| text(name))
}

const REFERENCE: [(&str, Reference); 3] =
    [("none", Reference::None), ("rest", Reference::Rest), ("past", Reference::Past)];

pub(super) fn to_json(config: &ModelConfig, task: &Task, card: &Card, head: Option<&ReadingHead>) -> Value {
    let task = match task {
        Task::Pretrained => object([("kind", text("pretrained"))]),
        Task::Encoder => object([("kind", text("encoder"))]),
        Task::Classifier { positive, negative, threshold } => object([
            ("kind", text("classifier")),
            ("positive", text(positive)),
            ("negative", text(negative)),
            ("threshold", Value::Float(*threshold)),
        ]),
    };
    object([
        ("model_type", text("heartlore")),
        ("format_version", int(FORMAT_VERSION)),
        ("heartlore_version", text(env!("CARGO_PKG_VERSION"))),
        ("task", task),
        ("head", head.map_or(Value::Null, head_to_json)),
        ("model", model_to_json(config)),
        ("card", card_to_json(card)),
    ])
}

/// What `config.json` holds: the configuration, the task, the card, the keys that were set aside, and the head of a model
/// that reads more than its embedding.
pub(super) type Parts = (ModelConfig, Task, Card, Vec<String>, Option<ReadingHead>);

pub(super) fn from_json(value: Value) -> Result<Parts> {
    let mut f = Fields::new(value, "")?;
    let foreign = f.set_aside(&HUGGING_FACE);
    f.choice("model_type", &[("heartlore", ())])?;
    let version = f.usize("format_version")?;
    if version != FORMAT_VERSION {
        return Err(Error::format(format!(
            "version {version} of the layout; this program knows {FORMAT_VERSION}"
        ))
        .at("format_version")
        .remedy("use the version of heartlore that wrote the model"));
    }
    f.string("heartlore_version")?; // for people; the format's version decides
    let mut t = f.object("task")?;
    let task = match t.choice("kind", &[("pretrained", 0), ("encoder", 1), ("classifier", 2)])? {
        0 => Task::Pretrained,
        1 => Task::Encoder,
        _ => {
            let (positive, negative) = (t.string("positive")?, t.string("negative")?);
            Task::Classifier { positive, negative, threshold: t.f64("threshold")? }
        }
    };
    t.finish()?;
    // Models of earlier versions have none.
    let head = match f.optional("head") {
        None | Some(Value::Null) => None,
        Some(value) => Some(head_from_json(Fields::new(value, "head")?)?),
    };
    let config = model_from_json(f.object("model")?)?;
    let card = card_from_json(f.object("card")?)?;
    f.finish()?;
    Ok((config, task, card, foreign, head))
}

fn head_to_json(head: &ReadingHead) -> Value {
    let Reading { reference, reference_s, context_s } = head.reading;
    object([
        ("reference", name(&REFERENCE, &reference)),
        ("reference_s", Value::Float(reference_s)),
        ("context_s", Value::Float(context_s)),
        ("missing", Value::Array(head.missing.iter().map(|v| Value::Float(f64::from(*v))).collect())),
    ])
}

fn head_from_json(mut f: Fields) -> Result<ReadingHead> {
    let reading = Reading {
        reference: f.choice("reference", &REFERENCE)?,
        reference_s: f.f64("reference_s")?,
        context_s: f.f64("context_s")?,
    };
    let bad = || Error::format("a list of numbers is expected").at("head.missing");
    let Value::Array(items) = f.take("missing")? else { return Err(bad()) };
    let number = |v: Value| match v {
        Value::Float(v) => Ok(v as f32),
        Value::Int(v) => Ok(v as f32),
        Value::UInt(v) => Ok(v as f32),
        _ => Err(bad()),
    };
    let missing = items.into_iter().map(number).collect::<Result<_>>()?;
    f.finish()?;
    Ok(ReadingHead { reading, missing })
}

fn model_to_json(c: &ModelConfig) -> Value {
    // Taken apart without `..`, so that a new setting cannot be forgotten here.
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
    object([
        ("window", int(*window)),
        ("channels", ints(channels)),
        ("kernels", ints(kernels)),
        ("strides", ints(strides)),
        ("encoder_norm", name(&ENCODER_NORM, encoder_norm)),
        ("layers", int(*layers)),
        ("heads", int(*heads)),
        ("hidden", int(*hidden)),
        ("activation", name(&ACTIVATION, activation)),
        ("norm_order", name(&NORM_ORDER, norm_order)),
        ("positions", name(&POSITIONS, positions)),
        ("embed_norm", Value::Bool(*embed_norm)),
        ("cls", Value::Bool(*cls)),
        ("pooling", name(&POOLING, pooling)),
        ("dropout", Value::Float(*dropout)),
        ("attention_dropout", Value::Float(*attention_dropout)),
        ("norm_eps", Value::Float(*norm_eps)),
        ("head_hidden", ints(head_hidden)),
        ("head_dropout", Value::Float(*head_dropout)),
        ("mask", object([("probability", Value::Float(*probability)), ("span", int(*span))])),
    ])
}

fn model_from_json(mut f: Fields) -> Result<ModelConfig> {
    let mut m = f.object("mask")?;
    let mask = MaskConfig { probability: m.f64("probability")?, span: m.usize("span")? };
    m.finish()?;
    let config = ModelConfig {
        window: f.usize("window")?,
        channels: f.usizes("channels")?,
        kernels: f.usizes("kernels")?,
        strides: f.usizes("strides")?,
        encoder_norm: f.choice("encoder_norm", &ENCODER_NORM)?,
        layers: f.usize("layers")?,
        heads: f.usize("heads")?,
        hidden: f.usize("hidden")?,
        activation: f.choice("activation", &ACTIVATION)?,
        norm_order: f.choice("norm_order", &NORM_ORDER)?,
        positions: f.choice("positions", &POSITIONS)?,
        embed_norm: f.bool("embed_norm")?,
        cls: f.bool("cls")?,
        pooling: f.choice("pooling", &POOLING)?,
        dropout: f.f64("dropout")?,
        attention_dropout: f.f64("attention_dropout")?,
        norm_eps: f.f64("norm_eps")?,
        head_hidden: f.usizes("head_hidden")?,
        head_dropout: f.f64("head_dropout")?,
        mask,
    };
    f.finish()?;
    Ok(config)
}

fn card_to_json(c: &Card) -> Value {
    // The provenance has a file of its own.
    let Card { training_data, simulated, metrics, notes, licence, people, provenance: _ } = c;
    let metrics = metrics.iter().map(|(name, value)| object([("name", text(name)), ("value", text(value))]));
    object([
        ("training_data", texts(training_data)),
        ("simulated", Value::Bool(*simulated)),
        ("metrics", Value::Array(metrics.collect())),
        ("notes", texts(notes)),
        ("licence", licence.as_deref().map_or(Value::Null, text)),
        ("people", people.as_ref().map_or(Value::Null, people_to_json)),
    ])
}

fn card_from_json(mut f: Fields) -> Result<Card> {
    let training_data = f.strings("training_data")?;
    let simulated = f.bool("simulated")?;
    let mut metrics = Vec::new();
    let Value::Array(items) = f.take("metrics")? else {
        return Err(Error::format("a list is expected").at("card.metrics"));
    };
    for (i, item) in items.into_iter().enumerate() {
        let mut m = Fields::new(item, &format!("card.metrics[{i}]"))?;
        metrics.push((m.string("name")?, m.string("value")?));
        m.finish()?;
    }
    let notes = f.strings("notes")?;
    let licence = match f.take("licence")? {
        Value::Null => None,
        Value::String(s) => Some(s),
        _ => return Err(Error::format("a text or null is expected").at("card.licence")),
    };
    // Models of earlier versions do not say.
    let people = match f.optional("people") {
        None | Some(Value::Null) => None,
        Some(value) => Some(people_from_json(value, "card.people")?),
    };
    f.finish()?;
    Ok(Card { training_data, simulated, metrics, notes, licence, people, provenance: Provenance::default() })
}
