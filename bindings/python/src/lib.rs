//! heartlore for Python: a translation of `heartlore::Model`, `heartlore::model::Stream` and `heartlore::signal` into NumPy
//! arrays and exceptions. Nothing is computed here, and the lock is released while something is.

use std::path::PathBuf;
use std::sync::Mutex;

use heartlore::data::readers::{self, Only, ReadOptions};
use heartlore::data::recording::Unit;
use heartlore::error::{Error, Kind};
use heartlore::model::{
    self, Ecg, Event, PreparedRecording, RecordingOptions, RecordingPrediction, StreamOptions, Task,
};
use heartlore::signal::hrv::{Hrv, NnSeries, NnSettings};
use heartlore::signal::{Preparation, QualitySettings, find_beats};
use numpy::{
    Element, PyArray1, PyArray2, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArrayMethods,
};
use pyo3::create_exception;
use pyo3::exceptions::{
    PyArithmeticError, PyKeyboardInterrupt, PyOSError, PyRuntimeError, PyTypeError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

create_exception!(heartlore, UsageError, PyValueError, "An argument makes no sense.");
create_exception!(heartlore, ShapeError, PyValueError, "Shapes or sizes that do not fit.");
create_exception!(heartlore, FormatError, PyValueError, "A file's content is not what it should be.");
create_exception!(heartlore, DataError, PyValueError, "Readable, but of no use for the purpose.");
create_exception!(heartlore, NumericError, PyArithmeticError, "The computation went wrong.");

fn raise(e: Error) -> PyErr {
    let text = e.to_string();
    match e.kind() {
        Kind::Usage => UsageError::new_err(text),
        Kind::Shape => ShapeError::new_err(text),
        Kind::Format => FormatError::new_err(text),
        Kind::Data => DataError::new_err(text),
        Kind::Io => PyOSError::new_err(text),
        Kind::Numeric => NumericError::new_err(text),
        Kind::Interrupted => PyKeyboardInterrupt::new_err(text),
        _ => PyRuntimeError::new_err(text),
    }
}

/// An array of `T`, borrowed: no copy. Says which dtype it has and which it should have.
fn array<'py, T: Element>(x: &Bound<'py, PyAny>, what: &str, dtype: &str) -> PyResult<PyReadonlyArrayDyn<'py, T>> {
    let typed = x.cast::<PyArrayDyn<T>>().map_err(|_| {
        let has = x.getattr("dtype").map_or_else(|_| x.get_type().to_string(), |d| d.to_string());
        PyTypeError::new_err(format!("{what} must be a numpy array of {dtype}, not {has}: use numpy.asarray(x, numpy.{dtype})"))
    })?;
    if !typed.is_c_contiguous() {
        return Err(ShapeError::new_err(format!(
            "{what} is not contiguous in memory: use numpy.ascontiguousarray"
        )));
    }
    typed.try_readonly().map_err(|_| PyValueError::new_err(format!("{what} is being written elsewhere")))
}

fn slice<'a, T: Element>(x: &'a PyReadonlyArrayDyn<'_, T>) -> PyResult<&'a [T]> {
    x.as_slice().map_err(|e| ShapeError::new_err(e.to_string()))
}

/// Windows `[n, window]` or `[window]`.
fn windows<'py>(x: &Bound<'py, PyAny>, window: usize) -> PyResult<PyReadonlyArrayDyn<'py, f32>> {
    let x = array::<f32>(x, "windows", "float32")?;
    match x.shape() {
        [samples] | [_, samples] if *samples == window => Ok(x),
        shape => Err(ShapeError::new_err(format!("windows of shape {shape:?}; the model takes [n, {window}]"))),
    }
}

/// Samples `[n]`.
fn samples<'py>(x: &Bound<'py, PyAny>) -> PyResult<PyReadonlyArrayDyn<'py, f64>> {
    let x = array::<f64>(x, "samples", "float64")?;
    match x.shape() {
        [_] => Ok(x),
        shape => Err(ShapeError::new_err(format!("samples of shape {shape:?}; wanted one dimension"))),
    }
}

fn rows<'py>(py: Python<'py>, values: Vec<f32>, width: usize) -> PyResult<Bound<'py, PyArray2<f32>>> {
    let n = values.len() / width.max(1);
    PyArray1::from_vec(py, values).reshape([n, width])
}

/// A trained model.
#[pyclass(frozen, module = "heartlore")]
struct Model(model::Model);

#[pymethods]
impl Model {
    /// Load the model in a directory.
    #[staticmethod]
    #[pyo3(signature = (path, *, threads = 0))]
    fn load(py: Python<'_>, path: PathBuf, threads: usize) -> PyResult<Self> {
        let loaded = py.detach(|| model::Model::load(&path)).map_err(raise)?;
        Ok(Self(loaded.with_threads(threads)))
    }

    /// A model from the content of its files.
    #[staticmethod]
    #[pyo3(signature = (config, weights, preprocessor = None, *, threads = 0))]
    fn from_bytes(
        config: &Bound<'_, PyBytes>,
        weights: &Bound<'_, PyBytes>,
        preprocessor: Option<&Bound<'_, PyBytes>>,
        threads: usize,
    ) -> PyResult<Self> {
        let preprocessor = preprocessor.map(|b| b.as_bytes());
        let loaded = model::Model::from_bytes(config.as_bytes(), weights.as_bytes(), preprocessor);
        Ok(Self(loaded.map_err(raise)?.with_threads(threads)))
    }

    /// Save the model as a directory.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        py.detach(|| self.0.save(&path)).map_err(raise)
    }

    #[getter]
    fn window(&self) -> usize {
        self.0.config().window
    }

    #[getter]
    fn width(&self) -> usize {
        self.0.config().width()
    }

    #[getter]
    fn rate_hz(&self) -> Option<f64> {
        self.0.preprocessing.as_ref().map(|p| p.rate_hz)
    }

    #[getter]
    fn task(&self) -> &'static str {
        self.0.task().name()
    }

    /// (positive, negative), or None for a model without a classifier.
    #[getter]
    fn states(&self) -> Option<(String, String)> {
        match self.0.task() {
            Task::Classifier { positive, negative, .. } => Some((positive.clone(), negative.clone())),
            Task::Pretrained | Task::Encoder => None,
        }
    }

    #[getter]
    fn threshold(&self) -> Option<f64> {
        match self.0.task() {
            Task::Classifier { threshold, .. } => Some(*threshold),
            Task::Pretrained | Task::Encoder => None,
        }
    }

    /// Probability of the positive state, float32 [n].
    fn predict<'py>(&self, py: Python<'py>, windows: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArray1<f32>>> {
        let x = self::windows(windows, self.window())?;
        let x = slice(&x)?;
        Ok(PyArray1::from_vec(py, py.detach(|| self.0.predict(x)).map_err(raise)?))
    }

    /// Features, float32 [n, width].
    fn embed<'py>(&self, py: Python<'py>, windows: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let x = self::windows(windows, self.window())?;
        let x = slice(&x)?;
        rows(py, py.detach(|| self.0.embed(x)).map_err(raise)?, self.width())
    }

    /// Reconstruction, float32 [n, window].
    #[pyo3(signature = (windows, mask = None))]
    fn reconstruct<'py>(
        &self,
        py: Python<'py>,
        windows: &Bound<'py, PyAny>,
        mask: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let x = self::windows(windows, self.window())?;
        let mask = mask.map(|m| array::<bool>(m, "mask", "bool_")).transpose()?;
        let hidden = match &mask {
            Some(mask) => slice(mask)?,
            None => &[],
        };
        let x = slice(&x)?;
        rows(py, py.detach(|| self.0.reconstruct(x, hidden)).map_err(raise)?, self.window())
    }

    /// Windows of a recording as the model takes them: (values, start_s, quality).
    #[pyo3(signature = (samples, fs_hz, *, mv_per_unit = None, hop_s = None))]
    fn prepare<'py>(
        &self,
        py: Python<'py>,
        samples: &Bound<'py, PyAny>,
        fs_hz: f64,
        mv_per_unit: Option<f64>,
        hop_s: Option<f64>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let x = self::samples(samples)?;
        let ecg = Ecg { samples: slice(&x)?, fs_hz, mv_per_unit };
        let prepared = py.detach(|| self.0.prepare_samples(ecg, hop_s)).map_err(raise)?;
        let out = spans(py, &prepared)?;
        out.set_item("windows", rows(py, prepared.values, self.window())?)?;
        Ok(out)
    }

    /// Probability of each window of a recording's samples.
    #[pyo3(signature = (samples, fs_hz, *, mv_per_unit = None, hop_s = None))]
    fn predict_samples<'py>(
        &self,
        py: Python<'py>,
        samples: &Bound<'py, PyAny>,
        fs_hz: f64,
        mv_per_unit: Option<f64>,
        hop_s: Option<f64>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let x = self::samples(samples)?;
        let ecg = Ecg { samples: slice(&x)?, fs_hz, mv_per_unit };
        let prediction = py.detach(|| self.0.predict_samples(ecg, hop_s)).map_err(raise)?;
        predicted(py, prediction)
    }

    /// Probability of each window of a recording in a file.
    #[pyo3(signature = (path, *, hop_s = None, channel = None, unit = None, fs_hz = None, record = None))]
    #[allow(clippy::too_many_arguments)]
    fn predict_recording<'py>(
        &self,
        py: Python<'py>,
        path: PathBuf,
        hop_s: Option<f64>,
        channel: Option<String>,
        unit: Option<&str>,
        fs_hz: Option<f64>,
        record: Option<String>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let options = RecordingOptions { hop_s, channel, unit: parse_unit(unit)?, fs_hz, record, ..RecordingOptions::default() };
        predicted(py, py.detach(|| self.0.predict_recording(&path, &options)).map_err(raise)?)
    }

    /// Parameters by name, as PyTorch names and lays them out: {name: float32 array}.
    fn state_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let out = PyDict::new(py);
        for tensor in self.0.tensors() {
            out.set_item(tensor.name, PyArray1::from_slice(py, tensor.values).reshape(tensor.shape)?)?;
        }
        Ok(out)
    }

    /// The same model with other parameters of the same names and shapes: what state_dict gives, or PyTorch's as numpy.
    fn with_state_dict(&self, state: &Bound<'_, PyDict>) -> PyResult<Self> {
        let mut tensors = Vec::new();
        for (name, values) in state.iter() {
            let name: String = name.extract()?;
            let x = array::<f32>(&values, &name, "float32")?;
            tensors.push((name, x.shape().to_vec(), slice(&x)?.to_vec()));
        }
        let mut made =
            model::Model::new(self.0.config().clone(), self.0.task().clone(), tensors).map_err(raise)?;
        made.preprocessing = self.0.preprocessing.clone();
        made.card = self.0.card.clone();
        Ok(Self(made))
    }

    fn __repr__(&self) -> String {
        format!("heartlore.Model({}, window={}, parameters={})", self.task(), self.window(), self.0.parameters())
    }
}

fn parse_unit(unit: Option<&str>) -> PyResult<Option<Unit>> {
    match unit.map(Unit::parse) {
        Some(Unit::Unknown(text)) => {
            Err(UsageError::new_err(format!("the unit '{text}' is not known: use mV, uV, V or arbitrary")))
        }
        unit => Ok(unit),
    }
}

fn spans<'py>(py: Python<'py>, prepared: &PreparedRecording) -> PyResult<Bound<'py, PyDict>> {
    let out = PyDict::new(py);
    let column = |f: fn(&model::WindowSpan) -> f64| prepared.windows.iter().map(f).collect::<Vec<f64>>();
    out.set_item("start_s", PyArray1::from_vec(py, column(|w| w.start_s)))?;
    out.set_item("end_s", PyArray1::from_vec(py, column(|w| w.end_s)))?;
    out.set_item("quality", PyList::new(py, prepared.windows.iter().map(|w| w.quality))?)?;
    out.set_item("missing", prepared.missing)?;
    out.set_item("left_over_s", prepared.left_over_s)?;
    out.set_item("warnings", &prepared.warnings)?;
    Ok(out)
}

fn predicted<'py>(py: Python<'py>, prediction: RecordingPrediction) -> PyResult<Bound<'py, PyDict>> {
    let out = spans(py, &prediction.prepared)?;
    out.set_item("probability", PyArray1::from_vec(py, prediction.probabilities))?;
    Ok(out)
}

/// A live signal.
#[pyclass(frozen, module = "heartlore")]
struct Stream(Mutex<Option<model::Stream>>);

impl Stream {
    fn with<'py>(
        &self,
        py: Python<'py>,
        work: impl FnOnce(&mut model::Stream) -> heartlore::Result<()> + Send,
    ) -> PyResult<Bound<'py, PyList>> {
        let events: Vec<Event> = py.detach(|| {
            let mut stream = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let stream = stream.as_mut().ok_or_else(|| UsageError::new_err("the stream was closed"))?;
            work(stream).map_err(raise)?;
            PyResult::Ok(stream.events().collect())
        })?;
        let out = PyList::empty(py);
        for event in events {
            let d = PyDict::new(py);
            match event {
                Event::Beat { time_s, rr_s } => {
                    d.set_item("event", "beat")?;
                    d.set_item("time_s", time_s)?;
                    d.set_item("rr_s", rr_s)?;
                }
                Event::Window { start_s, end_s, probability, quality, index } => {
                    d.set_item("event", "window")?;
                    d.set_item("start_s", start_s)?;
                    d.set_item("end_s", end_s)?;
                    d.set_item("probability", probability)?;
                    d.set_item("quality", quality)?;
                    d.set_item("quality_index", index)?;
                }
                Event::Gap { start_s, end_s, samples } => {
                    d.set_item("event", "gap")?;
                    d.set_item("start_s", start_s)?;
                    d.set_item("end_s", end_s)?;
                    d.set_item("samples", samples)?;
                }
                Event::LeadOff { start_s } => {
                    d.set_item("event", "lead_off")?;
                    d.set_item("start_s", start_s)?;
                }
                Event::LeadOn { time_s } => {
                    d.set_item("event", "lead_on")?;
                    d.set_item("time_s", time_s)?;
                }
                _ => continue,
            }
            out.append(d)?;
        }
        Ok(out)
    }
}

#[pymethods]
impl Stream {
    #[new]
    #[pyo3(signature = (model, fs_hz, *, hop_s = None, mv_per_unit = None, causal = false, lead_off_s = 1.0))]
    fn new(
        model: Option<&Bound<'_, Model>>,
        fs_hz: f64,
        hop_s: Option<f64>,
        mv_per_unit: Option<f64>,
        causal: bool,
        lead_off_s: f64,
    ) -> PyResult<Self> {
        let options = StreamOptions { hop_s, mv_per_unit, causal, lead_off_s };
        let stream = match model {
            Some(model) => model::Stream::new(&model.get().0, fs_hz, options),
            None => {
                let mut preparation = Preparation::default();
                if let Some(hop_s) = hop_s {
                    preparation.hop = (hop_s * preparation.rate_hz).round() as usize;
                }
                model::Stream::without_model(preparation, fs_hz, StreamOptions { causal: true, ..options })
            }
        };
        Ok(Self(Mutex::new(Some(stream.map_err(raise)?))))
    }

    /// Takes the next samples and gives the events that became known.
    fn push<'py>(&self, py: Python<'py>, samples: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
        let x = self::samples(samples)?;
        let x = slice(&x)?;
        self.with(py, |stream| stream.push(x))
    }

    /// That many samples were lost.
    fn lost<'py>(&self, py: Python<'py>, samples: u64) -> PyResult<Bound<'py, PyList>> {
        self.with(py, |stream| stream.lost(samples))
    }

    /// The signal has ended.
    fn finish<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.with(py, model::Stream::finish)
    }

    /// Frees the stream; a later call raises UsageError.
    fn close(&self) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    }
}

/// Read one channel of a recording: {samples, fs_hz, unit, label, record, warnings}.
#[pyfunction]
#[pyo3(signature = (path, *, channel = None, unit = None, fs_hz = None, record = None))]
fn read<'py>(
    py: Python<'py>,
    path: PathBuf,
    channel: Option<String>,
    unit: Option<&str>,
    fs_hz: Option<f64>,
    record: Option<String>,
) -> PyResult<Bound<'py, PyDict>> {
    let options = ReadOptions {
        fs_hz,
        unit: parse_unit(unit)?,
        record,
        only: Some(channel.map_or(Only::Ecg, Only::Label)),
        ..ReadOptions::default()
    };
    let recording = py.detach(|| readers::open(&path, &options)).map_err(raise)?;
    let Some(channel) = recording.channels.into_iter().next() else {
        return Err(DataError::new_err("no channel was read"));
    };
    let out = PyDict::new(py);
    out.set_item("samples", PyArray1::from_vec(py, channel.samples))?;
    out.set_item("fs_hz", channel.fs_hz)?;
    out.set_item("unit", channel.unit.to_string())?;
    out.set_item("label", channel.label)?;
    out.set_item("record", recording.record)?;
    out.set_item("warnings", recording.warnings)?;
    Ok(out)
}

/// Sample numbers of the R peaks, int64.
#[pyfunction]
fn beats<'py>(py: Python<'py>, samples: &Bound<'py, PyAny>, fs_hz: f64) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let x = self::samples(samples)?;
    let x = slice(&x)?;
    let found = py.detach(|| find_beats(x, fs_hz)).map_err(raise)?;
    Ok(PyArray1::from_vec(py, found.samples().map(|p| p as i64).collect()))
}

/// The quality gate's judgement.
#[pyfunction]
#[pyo3(signature = (samples, fs_hz, *, mv_per_unit = None))]
fn quality<'py>(
    py: Python<'py>,
    samples: &Bound<'py, PyAny>,
    fs_hz: f64,
    mv_per_unit: Option<f64>,
) -> PyResult<Bound<'py, PyDict>> {
    let x = self::samples(samples)?;
    let x = slice(&x)?;
    let verdict = py.detach(|| QualitySettings::default().judge(x, fs_hz, mv_per_unit)).map_err(raise)?;
    let out = PyDict::new(py);
    out.set_item("usable", verdict.usable())?;
    out.set_item("index", verdict.index())?;
    out.set_item("reasons", PyList::new(py, verdict.reasons.iter().map(|r| r.name()))?)?;
    let m = verdict.measures;
    out.set_item("missing", m.non_finite)?;
    out.set_item("beats", m.beats)?;
    out.set_item("heart_rate_bpm", m.heart_rate_bpm)?;
    out.set_item("template_correlation", m.template_correlation)?;
    out.set_item("kurtosis", m.kurtosis)?;
    out.set_item("flat_share", m.flat_share)?;
    out.set_item("clip_share", m.clip_share)?;
    out.set_item("powerline_share", m.powerline_share)?;
    Ok(out)
}

/// Heart-rate variability of beats at these seconds, by NeuroKit2's names.
#[pyfunction]
fn hrv<'py>(py: Python<'py>, beats_s: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let x = self::samples(beats_s)?;
    let x = slice(&x)?;
    let (measures, dropped) = py
        .detach(|| {
            let nn = NnSeries::from_beats(x, &NnSettings::default())?;
            Ok((Hrv::of(&nn)?, nn.dropped()))
        })
        .map_err(raise)?;
    let out = PyDict::new(py);
    let time = measures.time;
    out.set_item("HRV_MeanNN", time.map(|t| t.mean_nn_ms))?;
    out.set_item("HRV_MedianNN", time.map(|t| t.median_nn_ms))?;
    out.set_item("HRV_SDNN", time.map(|t| t.sdnn_ms))?;
    out.set_item("HRV_RMSSD", time.map(|t| t.rmssd_ms))?;
    out.set_item("HRV_SDSD", time.map(|t| t.sdsd_ms))?;
    out.set_item("HRV_CVNN", time.map(|t| t.cvnn))?;
    out.set_item("HRV_pNN50", time.map(|t| t.pnn50_percent))?;
    out.set_item("HRV_pNN20", time.map(|t| t.pnn20_percent))?;
    out.set_item("HRV_MinNN", time.map(|t| t.min_nn_ms))?;
    out.set_item("HRV_MaxNN", time.map(|t| t.max_nn_ms))?;
    out.set_item("HRV_SampEn", measures.sample_entropy)?;
    out.set_item("heart_rate_bpm", time.map(|t| t.mean_bpm))?;
    out.set_item("intervals", time.map(|t| t.intervals))?;
    out.set_item("dropped", dropped)?;
    Ok(out)
}

/// The compiled part of heartlore.
#[pymodule]
fn _heartlore(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = m.py();
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    m.add_class::<Model>()?;
    m.add_class::<Stream>()?;
    m.add_function(wrap_pyfunction!(read, m)?)?;
    m.add_function(wrap_pyfunction!(beats, m)?)?;
    m.add_function(wrap_pyfunction!(quality, m)?)?;
    m.add_function(wrap_pyfunction!(hrv, m)?)?;
    m.add("UsageError", py.get_type::<UsageError>())?;
    m.add("ShapeError", py.get_type::<ShapeError>())?;
    m.add("FormatError", py.get_type::<FormatError>())?;
    m.add("DataError", py.get_type::<DataError>())?;
    m.add("NumericError", py.get_type::<NumericError>())?;
    Ok(())
}
