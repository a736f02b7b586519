//! Reading a JSON object strictly: every key once, of the right kind, and none left over.

use crate::checkpoint::json::Value;
use crate::error::{Error, Result};

/// Keys that Hugging Face's tools write into `config.json` and `preprocessor_config.json`. What a model or its windows are
/// is said by heartlore's own keys; a key that is in neither list is an error, since it may be a misspelt one.
pub(super) const HUGGING_FACE: [&str; 24] = [
    "architectures",
    "auto_map",
    "base_model",
    "chunk_size_feed_forward",
    "dtype",
    "finetuning_task",
    "id2label",
    "is_decoder",
    "is_encoder_decoder",
    "label2id",
    "library_name",
    "license",
    "num_labels",
    "output_attentions",
    "output_hidden_states",
    "pipeline_tag",
    "problem_type",
    "processor_class",
    "return_dict",
    "tags",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "use_cache",
];

/// The members of an object that have not been asked for yet.
pub(super) struct Fields {
    place: String,
    members: Vec<(String, Value)>,
}

impl Fields {
    /// Takes an object apart; `place` is where it stands, for messages (`model.mask`).
    pub(super) fn new(value: Value, place: &str) -> Result<Self> {
        match value {
            Value::Object(members) => Ok(Self { place: place.into(), members }),
            _ => {
                Err(bad("an object is expected").at(if place.is_empty() { "the whole text" } else { place }))
            }
        }
    }

    /// The value of `key`, if it is there.
    pub(super) fn optional(&mut self, key: &str) -> Option<Value> {
        let i = self.members.iter().position(|(k, _)| k == key)?;
        Some(self.members.remove(i).1)
    }

    /// Every member that is left, as lists of texts by key.
    pub(super) fn lists(mut self) -> Result<Vec<(String, Vec<String>)>> {
        let keys: Vec<String> = self.members.iter().map(|(k, _)| k.clone()).collect();
        keys.into_iter().map(|k| Ok((k.clone(), self.strings(&k)?))).collect()
    }

    fn name(&self, key: &str) -> String {
        if self.place.is_empty() { key.into() } else { format!("{}.{key}", self.place) }
    }

    /// The value of `key`.
    pub(super) fn take(&mut self, key: &str) -> Result<Value> {
        match self.members.iter().position(|(k, _)| k == key) {
            Some(i) => Ok(self.members.remove(i).1),
            None => Err(bad("this key is missing").at(self.name(key))),
        }
    }

    /// An object inside.
    pub(super) fn object(&mut self, key: &str) -> Result<Fields> {
        Fields::new(self.take(key)?, &self.name(key))
    }

    fn of<T>(&mut self, key: &str, what: &str, read: impl Fn(&Value) -> Option<T>) -> Result<T> {
        let value = self.take(key)?;
        read(&value).ok_or_else(|| bad(&format!("{what} is expected")).at(self.name(key)))
    }

    pub(super) fn usize(&mut self, key: &str) -> Result<usize> {
        self.of(key, "a non-negative integer", as_usize)
    }
    pub(super) fn f64(&mut self, key: &str) -> Result<f64> {
        self.of(key, "a number", Value::as_f64)
    }
    pub(super) fn bool(&mut self, key: &str) -> Result<bool> {
        self.of(key, "true or false", Value::as_bool)
    }
    pub(super) fn string(&mut self, key: &str) -> Result<String> {
        self.of(key, "a text", |v| v.as_str().map(str::to_string))
    }
    pub(super) fn usizes(&mut self, key: &str) -> Result<Vec<usize>> {
        self.of(key, "a list of non-negative integers", |v| v.as_array()?.iter().map(as_usize).collect())
    }
    pub(super) fn strings(&mut self, key: &str) -> Result<Vec<String>> {
        let text = |v: &Value| v.as_str().map(str::to_string);
        self.of(key, "a list of texts", |v| v.as_array()?.iter().map(text).collect())
    }

    /// One of the named choices.
    pub(super) fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Result<T> {
        let text = self.string(key)?;
        choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            bad(&format!("'{text}' is none of {}", names.join(", "))).at(self.name(key))
        })
    }

    /// Takes out the keys that other tools add and that say nothing about the model: those in `known`, and those with an
    /// underscore first. Returns them.
    pub(super) fn set_aside(&mut self, known: &[&str]) -> Vec<String> {
        let foreign = |key: &str| key.starts_with('_') || known.contains(&key);
        self.members.extract_if(.., |(key, _)| foreign(key)).map(|(key, _)| key).collect()
    }

    /// Fails if anything was not asked for.
    pub(super) fn finish(self) -> Result<()> {
        match self.members.first() {
            None => Ok(()),
            Some((key, _)) => Err(bad("this key is not known").at(self.name(key))),
        }
    }
}

fn as_usize(v: &Value) -> Option<usize> {
    v.as_u64().and_then(|n| usize::try_from(n).ok())
}

fn bad(what: &str) -> Error {
    Error::format(what)
        .remedy("use the file as heartlore wrote it, with the version that wrote it or a newer one")
}

/// `object(&[("a", Value)])`.
pub(super) fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::Object(members.into_iter().map(|(k, v)| (k.to_string(), v)).collect())
}

/// An integer.
pub(super) fn int(n: usize) -> Value {
    i64::try_from(n).map_or(Value::UInt(n as u64), Value::Int)
}

/// A list of integers.
pub(super) fn ints(n: &[usize]) -> Value {
    Value::Array(n.iter().copied().map(int).collect())
}

/// A text.
pub(super) fn text(s: &str) -> Value {
    Value::String(s.to_string())
}

/// A list of texts.
pub(super) fn texts(s: &[String]) -> Value {
    Value::Array(s.iter().map(|s| text(s)).collect())
}
