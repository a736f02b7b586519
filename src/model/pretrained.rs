//! The encoder that comes with the source: [`Model::pretrained`].

use super::Model;
use crate::error::Result;

const CONFIG: &[u8] = include_bytes!("../../examples/models/small/config.json");
const WEIGHTS: &[u8] = include_bytes!("../../examples/models/small/model.safetensors");
const PREPROCESSOR: &[u8] = include_bytes!("../../examples/models/small/preprocessor_config.json");

impl Model {
    /// The shipped encoder: `small`, pre-trained on the physiology of open ECG (`examples/models/README.md` has the data,
    /// their licences, the commands and the hashes). It gives features of windows of 10 s at 128 Hz, band-passed and
    /// normalised as its [`Model::preprocessing`] says, and has no classifier: `heartlore finetune --init pretrained --mode
    /// probe` makes one.
    ///
    /// # Errors
    /// None, unless the files in the source tree were changed.
    ///
    /// ```
    /// let model = heartlore::Model::pretrained()?;
    /// let windows: Vec<f32> = (0..2 * 1280).map(|i| (i as f32 * 0.05).sin()).collect();
    /// assert_eq!(model.embed(&windows)?.len(), 2 * model.config().features());
    /// # Ok::<(), heartlore::Error>(())
    /// ```
    pub fn pretrained() -> Result<Self> {
        Self::from_bytes(CONFIG, WEIGHTS, Some(PREPROCESSOR))
    }
}
