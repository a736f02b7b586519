"""Values and gradients of every layer kind, and ten optimiser steps of a small transformer, from PyTorch in f64.

Run: python make.py, in any directory; it writes layers.txt and training.txt beside itself.
Made with Python 3.11 and PyTorch 2.15.0 (CPU); the first line of each file states the versions that made it.

Every input is a number that f32 holds exactly, so an f32 program starts from the same numbers; all computation is in f64.
A case is a line `case NAME` and lines `TENSOR DIMS : NUMBERS` (dims separated by commas, `-` for a scalar). `y` is the
result, `c` the random cotangent, `d.NAME` the gradient of sum(c y) by NAME; integer tensors begin with `i.`.
"""

import math
import pathlib
import sys

import torch
from torch import nn
from torch.nn import functional as F

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
HERE = pathlib.Path(__file__).parent
GENERATOR = torch.Generator().manual_seed(1706)
HEADER = f"# torch {torch.__version__.split('+')[0]}, python {sys.version.split()[0]}; made by make.py, do not edit\n"


def rand(*shape, scale=1.0):
    """Normal numbers rounded to multiples of 1/64: f32 holds them exactly, and their text is short."""
    return torch.round(torch.randn(shape, generator=GENERATOR) * scale * 64) / 64


class Writer:
    def __init__(self, path):
        self.file = open(path, "w")
        self.file.write(HEADER)

    def case(self, name):
        self.file.write(f"case {name}\n")

    def tensor(self, name, value):
        value = value.detach()
        dims = ",".join(str(n) for n in value.shape) or "-"
        numbers = value.double().ravel().tolist()
        self.file.write(f"{name} {dims} : {' '.join(f'{v:.13g}' for v in numbers)}\n")


OUT = Writer(HERE / "layers.txt")


def layer(name, tensors, f, data=()):
    """Writes one case: f(**tensors) and the gradients by all tensors but those named in `data`."""
    OUT.case(name)
    leaves = {}
    for key, value in tensors.items():
        OUT.tensor(key, value)
        if value.is_floating_point() and key not in data:
            leaves[key] = value.clone().requires_grad_(True)
    arguments = {k.removeprefix("i."): leaves.get(k, v) for k, v in tensors.items()}
    y = f(**{k.replace(".", "_"): v for k, v in arguments.items()})
    c = rand(*y.shape)
    OUT.tensor("c", c)
    OUT.tensor("y", y)
    (y * c).sum().backward()
    for key, leaf in leaves.items():
        OUT.tensor("d." + key, leaf.grad)


ACTIVATIONS = {
    "none": lambda x: x,
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


def linear_cases():
    for act, f in ACTIVATIONS.items():
        layer(
            f"linear_{act}",
            {"x": rand(2, 3, 19), "w": rand(5, 19, scale=0.3), "b": rand(5)},
            lambda x, w, b, f=f: f(F.linear(x, w, b)),
        )
    layer("linear_plain", {"x": rand(3, 35), "w": rand(18, 35, scale=0.2)}, lambda x, w: F.linear(x, w))


def conv_cases():
    def conv(stride, padding, dilation, act):
        def f(x, w, b):
            y = F.conv1d(x.transpose(1, 2), w, b, stride=stride, padding=padding, dilation=dilation)
            return ACTIVATIONS[act](y.transpose(1, 2))

        return f

    for length, inputs, outputs, kernel, stride, padding, dilation, act in [
        (11, 3, 5, 1, 1, 0, 1, "none"),
        (20, 1, 6, 5, 1, 2, 1, "relu"),
        (21, 4, 3, 4, 2, 3, 1, "gelu"),
        (17, 2, 3, 3, 3, 0, 2, "none"),
        (40, 2, 4, 33, 1, 16, 1, "gelu_tanh"),
    ]:
        name = f"conv1d_k{kernel}_s{stride}_p{padding}_d{dilation}_{act}"
        tensors = {
            "x": rand(2, length, inputs),
            "w": rand(outputs, inputs, kernel, scale=1 / math.sqrt(inputs * kernel)),
            "b": rand(outputs),
        }
        layer(name, tensors, conv(stride, padding, dilation, act))


def norm_cases():
    layer(
        "layer_norm",
        {"x": rand(2, 3, 21), "gamma": rand(21), "beta": rand(21)},
        lambda x, gamma, beta: F.layer_norm(x, (21,), gamma, beta, 1e-5),
    )
    layer(
        "residual_norm",
        {"x": rand(2, 3, 40), "r": rand(2, 3, 40), "gamma": rand(40), "beta": rand(40)},
        lambda x, r, gamma, beta: F.layer_norm(x + r, (40,), gamma, beta, 1e-5),
    )
    layer("softmax", {"x": rand(4, 23, scale=3.0)}, lambda x: torch.softmax(x, -1))
    for act, f in ACTIVATIONS.items():
        if act != "none":
            layer(f"activate_{act}", {"x": rand(53, scale=3.0)}, lambda x, f=f: f(x))


def key_mask(batch, keys):
    mask = torch.ones(batch, keys)
    mask[0, 1] = 0
    mask[-1, keys // 2 :] = 0
    return mask


def multihead(width, heads):
    module = nn.MultiheadAttention(width, heads, batch_first=True)

    def f(x, in_proj_weight, in_proj_bias, out_proj_weight, out_proj_bias, mask=None):
        parameters = {
            "in_proj_weight": in_proj_weight,
            "in_proj_bias": in_proj_bias,
            "out_proj.weight": out_proj_weight,
            "out_proj.bias": out_proj_bias,
        }
        options = {"need_weights": False}
        if mask is not None:
            options["key_padding_mask"] = mask == 0
        return torch.func.functional_call(module, parameters, (x, x, x), options)[0]

    return f


def attention_cases():
    width = 8
    tensors = {
        "x": rand(2, 9, width),
        "in_proj_weight": rand(3 * width, width, scale=0.4),
        "in_proj_bias": rand(3 * width, scale=0.3),
        "out_proj.weight": rand(width, width, scale=0.3),
        "out_proj.bias": rand(width),
    }
    layer("multihead_h4", tensors, multihead(width, 4))
    tensors = tensors | {"x": rand(2, 9, width), "mask": key_mask(2, 9)}
    layer("multihead_h2_masked", tensors, multihead(width, 2), data=("mask",))

    def dot(heads):
        def f(q, k, v):
            split = lambda t: t.unflatten(2, (heads, -1)).transpose(1, 2)
            return F.scaled_dot_product_attention(split(q), split(k), split(v)).transpose(1, 2).flatten(2)

        return f

    layer("attention_h1_cross", {"q": rand(1, 3, 5), "k": rand(1, 37, 5), "v": rand(1, 37, 5)}, dot(1))
    layer("attention_h2_cross", {"q": rand(2, 5, 18), "k": rand(2, 4, 18), "v": rand(2, 4, 18)}, dot(2))


def block_cases():
    for act in ["relu", "gelu"]:
        layer(
            f"feed_forward_{act}",
            {
                "x": rand(2, 4, 9),
                "w1": rand(21, 9, scale=0.4),
                "b1": rand(21),
                "w2": rand(9, 21, scale=0.3),
                "b2": rand(9),
            },
            lambda x, w1, b1, w2, b2, act=act: F.linear(ACTIVATIONS[act](F.linear(x, w1, b1)), w2, b2),
        )
    layer("add_rows", {"x": rand(2, 3, 5), "t": rand(3, 5)}, lambda x, t: x + t)
    layer("prepend_row", {"x": rand(2, 3, 5), "r": rand(5)}, lambda x, r: torch.cat([r.expand(2, 1, 5), x], 1))
    index = torch.tensor([[3, 0, 3], [1, 1, 2]])
    layer("gather_rows", {"x": rand(2, 4, 5), "i.index": index}, lambda x, index: x[torch.arange(2)[:, None], index])
    layer("pool_mean", {"x": rand(2, 5, 7)}, lambda x: x.mean(1))
    layer("pool_max", {"x": rand(2, 5, 7)}, lambda x: x.amax(1))
    layer("pool_first", {"x": rand(2, 5, 7)}, lambda x: x[:, 0])
    layer("pool_last", {"x": rand(2, 5, 7)}, lambda x: x[:, -1])
    layer("reduce_sum", {"x": rand(70)}, lambda x: x.sum())
    layer("reduce_mean", {"x": rand(7, 9)}, lambda x: x.mean())
    layer("reduce_norm", {"x": rand(7, 9)}, lambda x: x.norm())


def loss_cases():
    mask = (torch.rand(3, 17, generator=GENERATOR) < 0.4).double()
    pair = lambda: {"pred": rand(3, 17), "target": rand(3, 17)}
    layer("mse_mean", pair(), lambda pred, target: F.mse_loss(pred, target))
    layer("mse_sum", pair(), lambda pred, target: F.mse_loss(pred, target, reduction="sum"))
    layer(
        "mse_masked_mean",
        pair() | {"mask": mask},
        lambda pred, target, mask: F.mse_loss(pred[mask == 1], target[mask == 1]),
        data=("mask",),
    )
    target = torch.round(torch.rand(3, 17, generator=GENERATOR) * 256) / 256
    weight = torch.tensor(2.5)
    layer(
        "bce_mean",
        {"logits": rand(3, 17, scale=4.0), "target": target},
        lambda logits, target: F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight),
        data=("target",),
    )
    layer(
        "bce_masked_sum",
        {"logits": rand(3, 17, scale=4.0), "target": target, "mask": mask},
        lambda logits, target, mask: F.binary_cross_entropy_with_logits(
            logits, target, weight=mask, pos_weight=weight, reduction="sum"
        ),
        data=("target", "mask"),
    )
    labels = torch.tensor([0, 3, 3, 2, 1])
    for reduction in ["mean", "sum"]:
        layer(
            f"cross_entropy_{reduction}",
            {"logits": rand(5, 4, scale=3.0), "i.labels": labels},
            lambda logits, labels, reduction=reduction: F.cross_entropy(logits, labels, reduction=reduction),
        )


def encoder_case(name, norm_first, activation, masked, width=8, hidden=20, heads=2, tokens=7):
    module = nn.TransformerEncoderLayer(
        width, heads, hidden, dropout=0.0, activation=activation, batch_first=True, norm_first=norm_first
    )
    parameters = {k: rand(*v.shape, scale=0.4) for k, v in module.named_parameters()}
    for key in ["norm1.weight", "norm2.weight"]:
        parameters[key] = parameters[key] + 1.0
    tensors = {"x": rand(2, tokens, width)} | parameters
    if masked:
        tensors["mask"] = key_mask(2, tokens)
    names = {k.replace(".", "_"): k for k in parameters}

    def f(x, mask=None, **given):
        options = {"src_key_padding_mask": mask == 0} if mask is not None else {}
        return torch.func.functional_call(module, {names[k]: v for k, v in given.items()}, (x,), options)

    layer(name, tensors, f, data=("mask",))


class Small(nn.Module):
    """Convolution, sinusoidal positions, CLS row, a post-norm and a pre-norm encoder layer, a linear head on the CLS row."""

    WIDTH, HEADS, HIDDEN, CLASSES, LENGTH = 8, 2, 12, 3, 14

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(2, self.WIDTH, 5, stride=2, padding=2)
        self.cls = nn.Parameter(rand(self.WIDTH, scale=0.5))
        options = {"dropout": 0.0, "activation": "gelu", "batch_first": True}
        for i, norm_first in enumerate([False, True]):
            block = nn.TransformerEncoderLayer(self.WIDTH, self.HEADS, self.HIDDEN, norm_first=norm_first, **options)
            setattr(self, f"layers{i}", block)
        self.head = nn.Linear(self.WIDTH, self.CLASSES)
        with torch.no_grad():
            for key, p in self.named_parameters():
                if p.ndim > 1 or key.endswith("bias"):
                    p.copy_(rand(*p.shape, scale=0.3))
                # What is left, norm weights of 1 and the CLS row, f32 holds already.

    def forward(self, x):
        h = F.gelu(self.conv(x.transpose(1, 2)).transpose(1, 2))
        rows = h.shape[1]
        at = torch.arange(rows)[:, None] / 10000 ** (torch.arange(0, self.WIDTH, 2) / self.WIDTH)
        table = torch.stack([torch.sin(at), torch.cos(at)], 2).flatten(1)
        h = h + table
        h = torch.cat([self.cls.expand(len(x), 1, self.WIDTH), h], 1)
        h = self.layers1(self.layers0(h))
        return self.head(h[:, 0])


def training():
    out = Writer(HERE / "training.txt")
    module = Small()
    start = {k: p.detach().clone() for k, p in module.named_parameters()}
    steps, batch = 10, 3
    xs = rand(steps, batch, Small.LENGTH, 2)
    labels = torch.randint(Small.CLASSES, (steps, batch), generator=GENERATOR)
    # eps is 1e-4: the gradient of the key biases is zero in exact arithmetic (a constant added to all scores of a row
    # changes no probability), and with a small eps Adam would turn its rounding noise into full steps.
    for name, optimiser in [
        ("adam", lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.9, 0.98), eps=1e-4, foreach=False)),
        ("adamw", lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.9, 0.999), eps=1e-4, weight_decay=0.1, foreach=False)),
    ]:
        with torch.no_grad():
            for key, p in module.named_parameters():
                p.copy_(start[key])
        optimise = optimiser(list(module.parameters()))
        losses = []
        for x, label in zip(xs, labels):
            optimise.zero_grad()
            loss = F.cross_entropy(module(x), label)
            loss.backward()
            losses.append(loss.detach())
            optimise.step()
        if name == "adam":
            out.case("start")
            out.tensor("xs", xs)
            out.tensor("i.labels", labels)
            for key, p in start.items():
                out.tensor(key, p)
        out.case(name)
        out.tensor("losses", torch.stack(losses))
        for key, p in module.named_parameters():
            out.tensor(key, p)


linear_cases()
conv_cases()
norm_cases()
attention_cases()
block_cases()
loss_cases()
encoder_case("encoder_post_norm_relu", False, "relu", masked=False)
encoder_case("encoder_pre_norm_gelu_masked", True, "gelu", masked=True)
training()
