"""Makes python.safetensors with the Python package, for the test of our own reader and writer.

Made with Python 3.11.7, numpy 2.4.6, safetensors 0.8.0.   Run: python make.py
"""
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

save_file(
    {
        "conv.weight": (np.arange(6, dtype=np.float32) * 0.5 - 1).reshape(1, 2, 3),
        "norm.bias": np.zeros(0, dtype=np.float32),
        "scalar": np.array(3.5, dtype=np.float32),
        "double": np.array([0.1, -2.0]),
        "half": np.array([1, -0.5, 65504], dtype=np.float16),
        "ids": np.array([-1, 1 << 40], dtype=np.int64),
    },
    Path(__file__).parent / "python.safetensors",
    metadata={"format": "pt"},
)
