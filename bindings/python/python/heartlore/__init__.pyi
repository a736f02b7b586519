from os import PathLike
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from .classifier import HeartloreClassifier as HeartloreClassifier

__version__: str

class UsageError(ValueError): ...
class ShapeError(ValueError): ...
class FormatError(ValueError): ...
class DataError(ValueError): ...
class NumericError(ArithmeticError): ...

class Prepared(TypedDict):
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    quality: list[str]
    missing: int
    left_over_s: float
    warnings: list[str]
    windows: NDArray[np.float32]

class Prediction(TypedDict):
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    quality: list[str]
    missing: int
    left_over_s: float
    warnings: list[str]
    probability: NDArray[np.float32]

class Model:
    """A trained model. May be used from several threads at once."""

    @staticmethod
    def load(path: str | PathLike[str], *, threads: int = 0) -> Model:
        """Load the model in directory `path`. 0 threads take one per core; the numbers do not change."""
    @staticmethod
    def from_bytes(config: bytes, weights: bytes, preprocessor: bytes | None = None, *, threads: int = 0) -> Model:
        """A model from config.json, model.safetensors and preprocessor_config.json in memory."""
    def save(self, path: str | PathLike[str]) -> None:
        """Save the model as directory `path`, whole or not at all."""
    @property
    def window(self) -> int:
        """Samples per window."""
    @property
    def width(self) -> int:
        """Features per window."""
    @property
    def rate_hz(self) -> float | None:
        """Samples per second of a window; None if the model does not say."""
    @property
    def task(self) -> str:
        """`pretrained` or `classifier`."""
    @property
    def states(self) -> tuple[str, str] | None:
        """(positive, negative); None without a classifier."""
    @property
    def threshold(self) -> float | None:
        """Probability from which a window counts as positive."""
    def predict(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probability of the positive state: windows [n, window] or [window] -> [n]. The input is not copied."""
    def embed(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Pooled features: windows [n, window] -> [n, width]."""
    def reconstruct(self, windows: NDArray[np.float32], mask: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
        """Windows [n, window] reconstructed; `mask` is True where a sample is hidden from the model."""
    def prepare(
        self,
        samples: NDArray[np.float64],
        fs_hz: float,
        *,
        mv_per_unit: float | None = None,
        hop_s: float | None = None,
    ) -> Prepared:
        """Filter, resample, cut and normalise samples (NaN: missing) as the model was trained on."""
    def predict_samples(
        self,
        samples: NDArray[np.float64],
        fs_hz: float,
        *,
        mv_per_unit: float | None = None,
        hop_s: float | None = None,
    ) -> Prediction:
        """Probability of each window of a recording's samples (NaN: missing)."""
    def predict_recording(
        self,
        path: str | PathLike[str],
        *,
        hop_s: float | None = None,
        channel: str | None = None,
        unit: str | None = None,
        fs_hz: float | None = None,
        record: str | None = None,
    ) -> Prediction:
        """Probability of each window of a recording in a file of any known format."""
    def state_dict(self) -> dict[str, NDArray[np.float32]]:
        """Parameters under PyTorch's names and in its layouts."""
    def with_state_dict(self, state: dict[str, NDArray[np.float32]]) -> Model:
        """The same model with other parameters of the same names and shapes."""

class Stream:
    """A live signal, with a model or without one (None: beats and quality only)."""

    def __init__(
        self,
        model: Model | None,
        fs_hz: float,
        *,
        hop_s: float | None = None,
        mv_per_unit: float | None = None,
        causal: bool = False,
        lead_off_s: float = 1.0,
    ) -> None: ...
    def push(self, samples: NDArray[np.float64]) -> list[dict[str, object]]:
        """Take the next samples, in a block of any size; NaN is a missing sample. Gives the events that became known:
        `beat`, `window`, `gap`, `lead_off`, `lead_on`, each with its times in seconds of signal."""
    def lost(self, samples: int) -> list[dict[str, object]]: ...
    def finish(self) -> list[dict[str, object]]: ...
    def close(self) -> None: ...

class Recording(TypedDict):
    samples: NDArray[np.float64]
    fs_hz: float
    unit: str
    label: str
    record: str
    warnings: list[str]

def read(
    path: str | PathLike[str],
    *,
    channel: str | None = None,
    unit: str | None = None,
    fs_hz: float | None = None,
    record: str | None = None,
) -> Recording:
    """Read the ECG (or the named channel) of a recording in a file of any known format; samples in the file's unit."""

def beats(samples: NDArray[np.float64], fs_hz: float) -> NDArray[np.int64]:
    """Sample numbers of the R peaks; NaN is a missing sample."""

def quality(samples: NDArray[np.float64], fs_hz: float, *, mv_per_unit: float | None = None) -> dict[str, object]:
    """The quality gate's judgement: usable, index (0 to 1), reasons, and the measures behind them."""

def hrv(beats_s: NDArray[np.float64]) -> dict[str, float | int | None]:
    """Heart-rate variability of beats at these seconds, ms and percent, by NeuroKit2's names; None where there are too few."""
