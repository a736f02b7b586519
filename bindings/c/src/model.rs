//! Models: loading, windows in and numbers out, recordings.

use std::ffi::c_char;

use heartlore::error::{Error, Result};
use heartlore::model::{Ecg, Model, RecordingPrediction, Task};

use crate::error::{guard, heartlore_error};
use crate::handle::{borrow, borrow_mut, clear, free, give, slice, slice_mut, text};
use crate::quality_code;

/// A trained model. May be used from several threads at once.
#[derive(Debug)]
pub struct heartlore_model(pub(crate) Model);

/// A recording in windows with their probabilities.
#[derive(Debug)]
pub struct heartlore_prediction(RecordingPrediction);

/// One window of a recording.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct heartlore_window {
    /// Seconds from the first sample of the recording.
    pub start_s: f64,
    /// Time just after the last sample, in seconds.
    pub end_s: f64,
    /// Probability of the positive state.
    pub probability: f32,
    /// HEARTLORE_QUALITY_OK or another code: see heartlore_quality_name.
    pub quality: i32,
}

fn threads(model: Model, threads: u32) -> heartlore_model {
    heartlore_model(model.with_threads(threads as usize))
}

/// Loads the model in directory `dir` (UTF-8). `n_threads` threads compute; 0 takes one per core, and the numbers do not
/// change.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartlore_model_load(
    dir: *const c_char,
    n_threads: u32,
    out: *mut *mut heartlore_model,
    error: *mut heartlore_error,
) -> i32 {
    // SAFETY: pointers are null or valid, as the header asks.
    unsafe {
        guard(error, || {
            clear(out, "out")?;
            give(threads(Model::load(text(dir, "dir")?)?, n_threads), out, "out")
        })
    }
}

/// A model from the content of its files in memory, which is not needed afterwards. `preprocessor` may be null (then the model
/// takes windows, not recordings).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartlore_model_from_memory(
    config: *const u8,
    config_len: usize,
    weights: *const u8,
    weights_len: usize,
    preprocessor: *const u8,
    preprocessor_len: usize,
    n_threads: u32,
    out: *mut *mut heartlore_model,
    error: *mut heartlore_error,
) -> i32 {
    // SAFETY: pointers are null or valid for their lengths, as the header asks.
    unsafe {
        guard(error, || {
            clear(out, "out")?;
            let preprocessor = match preprocessor.is_null() {
                true => None,
                false => Some(slice(preprocessor, preprocessor_len, "preprocessor")?),
            };
            let (config, weights) =
                (slice(config, config_len, "config")?, slice(weights, weights_len, "weights")?);
            give(threads(Model::from_bytes(config, weights, preprocessor)?, n_threads), out, "out")
        })
    }
}

/// Frees *model and sets it to null. Null, and a pointer to null, are fine. No call with it may be running.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartlore_model_free(model: *mut *mut heartlore_model) {
    // SAFETY: as for every handle.
    unsafe { free(model) };
}

/// Samples per window; 0 for null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartlore_model_window(model: *const heartlore_model) -> usize {
    // SAFETY: null or a live handle, as the header says.
    unsafe { model.as_ref() }.map_or(0, |m| m.0.config().window)
}

/// Features per window of heartlore_embed; 0 for null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartlore_model_width(model: *const heartlore_model) -> usize {
    // SAFETY: null or a live handle, as the header says.
    unsafe { model.as_ref() }.map_or(0, |m| m.0.config().width())
}

/// Samples per second of the model's windows; 0 for null or if the model does not say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartlore_model_rate_hz(model: *const heartlore_model) -> f64 {
    // SAFETY: null or a live handle, as the header says.
    unsafe { model.as_ref() }.and_then(|m| m.0.preprocessing.as_ref()).map_or(0.0, |p| p.rate_hz)
}

/// Probability from which a window counts as positive; 0 for null or a model without a classifier.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartlore_model_threshold(model: *const heartlore_model) -> f64 {
    // SAFETY: null or a live handle, as the header says.
    match unsafe { model.as_ref() }.map(|m| m.0.task()) {
        Some(Task::Classifier { threshold, .. }) => *threshold,
        _ => 0.0,
    }
}

/// Copies `values` to C's array, which must be exactly as long.
fn copy_out(values: &[f32], out: &mut [f32]) -> Result<()> {
    if values.len() != out.len() {
        return Err(Error::shape(format!("{} values for an output of {}", values.len(), out.len())).remedy(
            "give room for one value per window (predict), width (embed) or window (reconstruct) each",
        ));
    }
    out.copy_from_slice(values);
    Ok(())
}

/// The length of the output is checked before anything is computed.
fn check_room(model: &Model, windows: &[f32], each: usize, out: &[f32]) -> Result<()> {
    let samples = model.config().window;
    match windows.len().is_multiple_of(samples) {
        true if out.len() != windows.len() / samples * each => Err(Error::shape(format!(
            "{} windows give {} values, the output has room for {}",
            windows.len() / samples,
            windows.len() / samples * each,
            out.len()
        ))),
        _ => Ok(()), // the model says what is wrong with the windows
    }
}

/// The probability of the positive state for each window. `windows` holds `windows_len` samples, window after window,
/// prepared as the model wants them; `out` has room for `out_len` = windows_len / heartlore_model_window() values.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartlore_predict(
    model: *const heartlore_model,
    windows: *const f32,
    windows_len: usize,
    out: *mut f32,
    out_len: usize,
    error: *mut heartlore_error,
) -> i32 {
    // SAFETY: pointers are null or valid for their lengths, as the header asks.
    unsafe {
        guard(error, || {
            let model = &borrow(model, "model")?.0;
            let (windows, out) = (slice(windows, windows_len, "windows")?, slice_mut(out, out_len, "out")?);
            check_room(model, windows, 1, out)?;
            copy_out(&model.predict(windows)?, out)
        })
    }
}

/// The pooled features of each window: heartlore_model_width() values each.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartlore_embed(
    model: *const heartlore_model,
    windows: *const f32,
    windows_len: usize,
    out: *mut f32,
    out_len: usize,
    error: *mut heartlore_error,
) -> i32 {
    // SAFETY: pointers are null or valid for their lengths, as the header asks.
    unsafe {
        guard(error, || {
            let model = &borrow(model, "model")?.0;
            let (windows, out) = (slice(windows, windows_len, "windows")?, slice_mut(out, out_len, "out")?);
            check_room(model, windows, model.config().width(), out)?;
            copy_out(&model.embed(windows)?, out)
        })
    }
}

/// The reconstruction of each window, as long as the windows. `mask` (null, or `windows_len` bytes) is not 0 where a sample is
/// hidden from the model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartlore_reconstruct(
    model: *const heartlore_model,
    windows: *const f32,
    windows_len: usize,
    mask: *const u8,
    out: *mut f32,
    out_len: usize,
    error: *mut heartlore_error,
) -> i32 {
    // SAFETY: pointers are null or valid for their lengths, as the header asks.
    unsafe {
        guard(error, || {
            let model = &borrow(model, "model")?.0;
            let (windows, out) = (slice(windows, windows_len, "windows")?, slice_mut(out, out_len, "out")?);
            let mask: Vec<bool> = match mask.is_null() {
                true => Vec::new(),
                false => slice(mask, windows_len, "mask")?.iter().map(|m| *m != 0).collect(),
            };
            check_room(model, windows, model.config().window, out)?;
            copy_out(&model.reconstruct(windows, &mask)?, out)
        })
    }
}

/// An optional number: 0 and NaN stand for none.
pub(crate) fn given(v: f64) -> Option<f64> {
    (v != 0.0 && !v.is_nan()).then_some(v)
}

/// Filters, resamples, cuts and normalises `samples` (NaN where one is missing) as the model was trained on, and predicts each
/// window. `mv_per_unit`: millivolts per unit of the samples, 0 if nobody knows. `hop_s`: seconds from one window's start to the
/// next, 0 for the model's own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartlore_predict_samples(
    model: *const heartlore_model,
    samples: *const f64,
    samples_len: usize,
    fs_hz: f64,
    mv_per_unit: f64,
    hop_s: f64,
    out: *mut *mut heartlore_prediction,
    error: *mut heartlore_error,
) -> i32 {
    // SAFETY: pointers are null or valid for their lengths, as the header asks.
    unsafe {
        guard(error, || {
            clear(out, "out")?;
            let samples = slice(samples, samples_len, "samples")?;
            let ecg = Ecg { samples, fs_hz, mv_per_unit: given(mv_per_unit) };
            let prediction = borrow(model, "model")?.0.predict_samples(ecg, given(hop_s))?;
            give(heartlore_prediction(prediction), out, "out")
        })
    }
}

/// As heartlore_predict_samples, for a recording in a file of any known format. `channel` and `unit` may be null; `fs_hz` is 0
/// for files that say their rate. A library built without the feature `formats` answers HEARTLORE_USAGE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartlore_predict_recording(
    model: *const heartlore_model,
    file: *const c_char,
    channel: *const c_char,
    unit: *const c_char,
    fs_hz: f64,
    hop_s: f64,
    out: *mut *mut heartlore_prediction,
    error: *mut heartlore_error,
) -> i32 {
    // SAFETY: pointers are null or valid strings, as the header asks.
    unsafe {
        guard(error, || {
            clear(out, "out")?;
            let model = &borrow(model, "model")?.0;
            let file = text(file, "file")?;
            let optional = |p: *const c_char, what| match p.is_null() {
                true => Ok(None),
                false => text(p, what).map(Some),
            };
            let (channel, unit) = (optional(channel, "channel")?, optional(unit, "unit")?);
            let prediction = of_file(model, file, channel, unit, given(fs_hz), given(hop_s))?;
            give(heartlore_prediction(prediction), out, "out")
        })
    }
}

#[cfg(feature = "formats")]
fn of_file(
    model: &Model,
    file: &str,
    channel: Option<&str>,
    unit: Option<&str>,
    fs_hz: Option<f64>,
    hop_s: Option<f64>,
) -> Result<RecordingPrediction> {
    use heartlore::data::recording::Unit;
    let unit = match unit.map(Unit::parse) {
        Some(Unit::Unknown(text)) => {
            return Err(
                Error::usage(format!("the unit '{text}' is not known")).remedy("use mV, uV, V or arbitrary")
            );
        }
        unit => unit,
    };
    let channel = channel.map(str::to_string);
    let options = heartlore::model::RecordingOptions { hop_s, channel, unit, fs_hz, ..Default::default() };
    model.predict_recording(file, &options)
}

#[cfg(not(feature = "formats"))]
fn of_file(
    _: &Model,
    _: &str,
    _: Option<&str>,
    _: Option<&str>,
    _: Option<f64>,
    _: Option<f64>,
) -> Result<RecordingPrediction> {
    Err(Error::usage("this library reads no files: it was built without the feature `formats`")
        .remedy("read the samples yourself and call heartlore_predict_samples"))
}

/// Number of windows; 0 for null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartlore_prediction_len(prediction: *const heartlore_prediction) -> usize {
    // SAFETY: null or a live handle, as the header says.
    unsafe { prediction.as_ref() }.map_or(0, |p| p.0.probabilities.len())
}

/// Copies window number `index` to `out`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartlore_prediction_window(
    prediction: *const heartlore_prediction,
    index: usize,
    out: *mut heartlore_window,
    error: *mut heartlore_error,
) -> i32 {
    // SAFETY: pointers are null or valid, as the header asks.
    unsafe {
        guard(error, || {
            let prediction = &borrow(prediction, "prediction")?.0;
            let out = borrow_mut(out, "out")?;
            let (w, probability) = prediction.rows().nth(index).ok_or_else(|| {
                Error::shape(format!("window {index} of {}", prediction.probabilities.len()))
            })?;
            let quality = quality_code(w.quality);
            *out = heartlore_window { start_s: w.start_s, end_s: w.end_s, probability, quality };
            Ok(())
        })
    }
}

/// Mean probability over the windows that passed the quality gate; NaN without one, or for null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartlore_prediction_mean(prediction: *const heartlore_prediction) -> f64 {
    // SAFETY: null or a live handle, as the header says.
    let mean = unsafe { prediction.as_ref() }.and_then(|p| p.0.summary(0.5).mean_probability);
    mean.unwrap_or(f64::NAN)
}

/// Frees *prediction and sets it to null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartlore_prediction_free(prediction: *mut *mut heartlore_prediction) {
    // SAFETY: as for every handle.
    unsafe { free(prediction) };
}
