//! A model as an ONNX file, for runtimes that are not heartlore.
//!
//! Operator set 17, IR version 8, one input `samples` `[batch, window]` with a batch of any size, and one output:
//!
//! | what | output | shape |
//! |---|---|---|
//! | [`Output::Logit`] | `probability` | `[batch]` |
//! | [`Output::Features`] | `features` | `[batch, width]` |
//! | [`Output::Reconstruction`] | `reconstruction` | `[batch, window]`; set masked samples to 0 before |
//!
//! The graph is written from the configuration and the named parameters, as a second definition of the network beside
//! [`crate::nn`]; `.ci/onnx` runs it in ONNX Runtime and compares, value by value. As in the library, the last layer computes
//! only the row that is read. Metadata carries what is needed to feed it: rate, filter, normalisation, labels, threshold.

mod build;
pub mod proto;

use prost::Message;

use super::{Model, Output, Task};
use crate::checkpoint::replace_file;
use crate::error::{Error, Kind, Result};
use build::Builder;

/// Version of the operator set that exported models use.
pub const OPSET: i64 = 17;

impl Model {
    /// The model as the bytes of an ONNX file that gives `output`.
    ///
    /// ```no_run
    /// # fn main() -> heartlore::Result<()> {
    /// use heartlore::model::{Model, Output};
    /// let bytes = Model::load("runs/fine/model")?.to_onnx(Output::Logit)?;
    /// # let _ = bytes; Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Kind::Usage`] if the model has no such output.
    pub fn to_onnx(&self, output: Output) -> Result<Vec<u8>> {
        // Refuses what the model cannot give, with the remedy.
        self.session(output)?;
        let graph = Builder::new(self)?.graph(output)?;
        let entry = |key: &str, value: String| proto::StringStringEntryProto { key: key.into(), value };
        let mut metadata = vec![entry("window", self.config().window.to_string())];
        if let Some(p) = &self.preprocessing {
            metadata.push(entry("rate_hz", p.rate_hz.to_string()));
            metadata.push(entry("hop", p.hop.to_string()));
            metadata.push(entry("normalisation", p.normalisation.to_string()));
            metadata.push(entry("unit", p.unit.clone()));
            if let Some(f) = &p.filter {
                let phase = if f.zero_phase { "zero phase" } else { "causal" };
                let text = format!(
                    "butterworth band-pass, order {}, {} to {} Hz, {phase}",
                    f.order, f.low_hz, f.high_hz
                );
                metadata.push(entry("filter", text));
            }
        }
        if let Task::Classifier { positive, negative, threshold } = self.task() {
            metadata.push(entry("positive", positive.clone()));
            metadata.push(entry("negative", negative.clone()));
            metadata.push(entry("threshold", threshold.to_string()));
        }
        let model = proto::ModelProto {
            ir_version: 8,
            producer_name: "heartlore".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            doc_string: "Windows of ECG, prepared as the metadata says, one row each.".into(),
            graph: Some(graph),
            opset_import: vec![proto::OperatorSetIdProto { domain: String::new(), version: OPSET }],
            metadata_props: metadata,
        };
        Ok(model.encode_to_vec())
    }

    /// Writes [`Model::to_onnx`] to a file, whole or not at all.
    ///
    /// # Errors
    /// As [`Model::to_onnx`]; the operating system's.
    pub fn save_onnx(&self, path: impl AsRef<std::path::Path>, output: Output) -> Result<()> {
        let bytes = self.to_onnx(output)?;
        replace_file(path, |sink| {
            sink.write_all(&bytes).map_err(|e| Error::new(Kind::Io, e.to_string()).caused_by(e))
        })
    }
}
