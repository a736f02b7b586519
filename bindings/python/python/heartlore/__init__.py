"""Emotion from ECG: trained transformers, beats, signal quality, live streams.

>>> import heartlore
>>> model = heartlore.Model.load("runs/fine/model")        # doctest: +SKIP
>>> model.predict_recording("recording.edf")["probability"]  # doctest: +SKIP
"""

from ._heartlore import (
    DataError,
    FormatError,
    Model,
    NumericError,
    ShapeError,
    Stream,
    UsageError,
    __version__,
    beats,
    hrv,
    quality,
    read,
)

__all__ = [
    "DataError",
    "FormatError",
    "HeartloreClassifier",
    "Model",
    "NumericError",
    "ShapeError",
    "Stream",
    "UsageError",
    "__version__",
    "beats",
    "hrv",
    "quality",
    "read",
]


def __getattr__(name):
    # scikit-learn takes a second to import: only who asks for the classifier pays.
    if name == "HeartloreClassifier":
        from .classifier import HeartloreClassifier

        return HeartloreClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
