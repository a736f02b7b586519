"""Writes tests/oracles/model_python: a model directory whose weights Python's safetensors package saved.

Made with Python 3.11.7, numpy 2.4.6, safetensors 0.8.0 (it prints its own). Value i of tensor number t, in the order of the
sorted names, is sin(t + i / 7) / 4. Run: python make_model_python.py
"""

import json
import pathlib
import sys

import numpy
import safetensors
from safetensors.numpy import save_file

WIDTH, HIDDEN, WINDOW, PATCH = 8, 12, 48, 4
shapes = {
    "encoder.conv.0.weight": [4, 1, 5],
    "encoder.conv.0.bias": [4],
    "encoder.norm.0.weight": [4],
    "encoder.norm.0.bias": [4],
    "encoder.conv.1.weight": [WIDTH, 4, 3],
    "encoder.conv.1.bias": [WIDTH],
    "cls": [WIDTH],
    "embed_norm.weight": [WIDTH],
    "embed_norm.bias": [WIDTH],
    "head.0.weight": [1, WIDTH],
    "head.0.bias": [1],
}
layer = "transformer.layers.0."
shapes |= {
    layer + "self_attn.in_proj_weight": [3 * WIDTH, WIDTH],
    layer + "self_attn.in_proj_bias": [3 * WIDTH],
    layer + "self_attn.out_proj.weight": [WIDTH, WIDTH],
    layer + "self_attn.out_proj.bias": [WIDTH],
    layer + "linear1.weight": [HIDDEN, WIDTH],
    layer + "linear1.bias": [HIDDEN],
    layer + "linear2.weight": [WIDTH, HIDDEN],
    layer + "linear2.bias": [WIDTH],
    layer + "norm1.weight": [WIDTH],
    layer + "norm1.bias": [WIDTH],
    layer + "norm2.weight": [WIDTH],
    layer + "norm2.bias": [WIDTH],
}
tensors = {}
for t, name in enumerate(sorted(shapes)):
    n = int(numpy.prod(shapes[name]))
    tensors[name] = (numpy.sin(t + numpy.arange(n) / 7) / 4).astype("float32").reshape(shapes[name])

config = {
    "model_type": "heartlore",
    "format_version": 1,
    "heartlore_version": "0.1.0",
    "task": {"kind": "classifier", "positive": "aroused", "negative": "calm", "threshold": 0.5},
    "model": {
        "window": WINDOW,
        "channels": [4, WIDTH],
        "kernels": [5, 3],
        "strides": [2, 2],
        "encoder_norm": "first",
        "layers": 1,
        "heads": 2,
        "hidden": HIDDEN,
        "activation": "relu",
        "norm_order": "post",
        "positions": "sinusoidal",
        "embed_norm": True,
        "cls": True,
        "pooling": "cls",
        "dropout": 0.1,
        "attention_dropout": 0.1,
        "norm_eps": 1e-5,
        "head_hidden": [],
        "head_dropout": 0.0,
        "mask": {"probability": 0.0325, "span": 20},
    },
    "card": {"training_data": [], "simulated": False, "metrics": [], "notes": [], "licence": None},
}
out = pathlib.Path(__file__).parent / "model_python"
out.mkdir(exist_ok=True)
save_file(tensors, out / "model.safetensors", metadata={"format": "np"})
(out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
print(f"Python {sys.version.split()[0]}, numpy {numpy.__version__}, safetensors {safetensors.__version__}")
