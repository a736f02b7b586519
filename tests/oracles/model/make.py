"""Makes oracle.safetensors for tests/nn_parity.rs: run it in this directory with PyTorch, NumPy and safetensors.

Made with PyTorch 2.15.0, NumPy 2.4.6, safetensors 0.8.0, Python 3.11, in float64 with dropout off. The transformer is
torch.nn.TransformerEncoder itself; the state dict is loaded strictly, so every parameter name and shape is PyTorch's.

Weights and windows are not stored: both sides make them from one integer hash (`numbers`). Stored per case and task:
outputs, loss, and per parameter the gradient's L2 norm followed by at most SAMPLES of its elements at a regular step.
"""

import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.numpy import save_file

torch.set_default_dtype(torch.float64)
SAMPLES = 64
GELU_TANH = lambda x: F.gelu(x, approximate="tanh")
ACTIVATIONS = {"relu": F.relu, "gelu": F.gelu, "gelu_tanh": GELU_TANH}


def numbers(name, n):
    """n numbers in [-1, 1): SplitMix64 of (FNV-1a of the name + index), its upper 24 bits."""
    h = 0xCBF29CE484222325
    for b in name.encode():
        h = ((h ^ b) * 0x100000001B3) % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(h) + (np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) / 2.0**23 - 1.0


def weights(name, shape):
    """Unit-variance matrices, gains near 1, small biases; rounded to float32 so that both precisions start alike."""
    u = numbers(name, int(np.prod(shape)))
    if len(shape) > 1:
        u = u * math.sqrt(3.0 / (np.prod(shape) / shape[0]))
    elif "norm" in name and name.endswith(".weight"):
        u = 1.0 + 0.1 * u
    else:
        u = 0.1 * u
    return torch.from_numpy(u.astype(np.float32).astype(np.float64).reshape(shape))


class Encoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        ins = [1] + c["channels"][:-1]
        self.conv = nn.ModuleList(
            nn.Conv1d(i, o, k, stride=s, padding=k // 2)
            for i, o, k, s in zip(ins, c["channels"], c["kernels"], c["strides"])
        )
        count = {"none": 0, "first": 1, "every": len(c["channels"])}[c["encoder_norm"]]
        self.norm = nn.ModuleList(nn.LayerNorm(o) for o in c["channels"][:count])

    def forward(self, x):
        x = x.unsqueeze(1)
        for i, conv in enumerate(self.conv):
            x = conv(x)
            if i < len(self.norm):
                x = self.norm[i](x.transpose(1, 2)).transpose(1, 2)
            x = F.relu(x)
        return x.transpose(1, 2)


class Model(nn.Module):
    def __init__(self, c, task):
        super().__init__()
        d = c["channels"][-1]
        self.c, self.patch = c, math.prod(c["strides"])
        rows = c["window"] // self.patch + c["cls"]
        self.encoder = Encoder(c)
        if c["cls"]:
            self.cls = nn.Parameter(torch.zeros(d))
        if c["positions"] == "learned":
            self.positions = nn.Parameter(torch.zeros(rows, d))
        elif c["positions"] == "sinusoidal":
            angle = torch.arange(rows).double()[:, None] / 10000.0 ** (torch.arange(0, d, 2).double() / d)
            self.table = torch.stack([angle.sin(), angle.cos()], -1).reshape(rows, d)
        if c["embed_norm"]:
            self.embed_norm = nn.LayerNorm(d)
        layer = nn.TransformerEncoderLayer(
            d, c["heads"], c["hidden"], dropout=0.0, activation=ACTIVATIONS[c["activation"]], batch_first=True,
            norm_first=c["pre_norm"],
        )
        norm = nn.LayerNorm(d) if c["pre_norm"] else None
        self.transformer = nn.TransformerEncoder(layer, c["layers"], norm=norm, enable_nested_tensor=False)
        if task == "pretrain":
            self.reconstruct = nn.Linear(d, self.patch)
        else:
            widths = [d] + c["head_hidden"] + [1]
            self.head = nn.ModuleList(nn.Linear(i, o) for i, o in zip(widths, widths[1:]))

    def body(self, x):
        x = self.encoder(x)
        if self.c["cls"]:
            x = torch.cat([self.cls.expand(x.shape[0], 1, -1), x], 1)
        if self.c["positions"] == "learned":
            x = x + self.positions
        elif self.c["positions"] == "sinusoidal":
            x = x + self.table
        if self.c["embed_norm"]:
            x = self.embed_norm(x)
        return self.transformer(x)

    def reconstruction(self, x):
        return self.reconstruct(self.body(x)[:, int(self.c["cls"]):]).flatten(1)

    def logits(self, x):
        x = self.body(x)
        x = {"cls": lambda: x[:, 0], "last": lambda: x[:, -1], "mean": lambda: x.mean(1), "max": lambda: x.amax(1)}[
            self.c["pooling"]
        ]()
        for i, layer in enumerate(self.head):
            x = layer(x)
            if i + 1 < len(self.head):
                x = F.relu(x)
        return x.squeeze(-1)


PAPER = dict(
    window=1280, channels=[64, 128, 256], kernels=[65, 33, 17], strides=[1, 1, 1], encoder_norm="first", layers=2,
    heads=2, hidden=1024, activation="relu", pre_norm=False, positions="sinusoidal", embed_norm=True, cls=True,
    pooling="cls", head_hidden=[1024, 512], batch=2, windows=["windows"],
)
SMALL = PAPER | dict(
    window=48, channels=[8, 16], kernels=[5, 3], strides=[2, 2], heads=4, hidden=24, head_hidden=[8], batch=3
)
# The windows of "paper" are those of window.1 to window.1360 that keep every ReLU furthest from its corner, masked as in
# their place of the batch and unmasked, in f64: at least 1.3e-6. Nearer than f32 rounds, one ReLU of 6 million falls on the
# other side in f32, and that alone moves gradients by 1e-4 to 1e-2 of their root mean square. Measured with other windows,
# one of whose feed-forward ReLUs lay at 1.4e-7: our f32 gradients were off by up to 1.6e-4 in all parameters before it
# (5.8e-3 in its own weights), and by 1.6e-6 in every parameter once f64 was given f32's sign of that one.
CASES = {
    "paper": PAPER | dict(windows=["window.1280", "window.228"]),
    "paper160": PAPER | dict(window=160),
    "post": SMALL,
    "pre": SMALL | dict(
        pre_norm=True, positions="learned", encoder_norm="every", activation="gelu", pooling="mean"
    ),
    "bare": SMALL | dict(
        pre_norm=True, positions="none", encoder_norm="none", embed_norm=False, cls=False, pooling="last",
        activation="gelu_tanh", strides=[4, 1], head_hidden=[],
    ),
    "max": SMALL | dict(positions="learned", cls=False, pooling="max", strides=[1, 1], layers=1),
}
POS_WEIGHT = 1.7
out, meta = {}, {}


def build(c, task):
    model = Model(c, task)
    state = {name: weights(name, tuple(p.shape)) for name, p in model.named_parameters()}
    model.load_state_dict(state, strict=True)
    return model.eval()


def data(c):
    b, w = c["batch"], c["window"]
    x = np.concatenate([numbers(name, b * w // len(c["windows"])) for name in c["windows"]])
    x = torch.from_numpy((1.5 * x).astype(np.float32).astype(np.float64).reshape(b, w))
    # Blocks of 20 points are masked, at least the first.
    blocks = (w + 19) // 20
    hit = numbers("mask", b * blocks).reshape(b, blocks) < -0.05
    hit[:, 0] = True
    mask = torch.from_numpy(np.repeat(hit, 20, axis=1)[:, :w].astype(np.float64))
    return x, mask


def keep_gradients(key, model):
    rows, names = [], []
    for name, p in model.named_parameters():
        g = p.grad.numpy().ravel()
        step = -(-g.size // SAMPLES)
        picked = g[::step]
        rows.append(np.concatenate([[np.linalg.norm(g)], picked, np.zeros(SAMPLES - picked.size)]))
        names.append(name)
    out[f"{key}.gradients"] = np.array(rows).astype(np.float64)
    meta[f"{key}.names"] = " ".join(names)


for case, c in CASES.items():
    x, mask = data(c)
    model = build(c, "pretrain")
    y = model.reconstruction(x * (1 - mask))
    loss = (mask * (y - x) ** 2).sum()
    loss.backward()
    out[f"{case}.pretrain.output"] = y.detach().numpy()
    out[f"{case}.pretrain.loss"] = np.array([loss.item()])
    keep_gradients(f"{case}.pretrain", model)

    model = build(c, "classify")
    targets = (torch.arange(c["batch"]) % 2).double()
    logits = model.logits(x)
    loss = F.binary_cross_entropy_with_logits(
        logits, targets, pos_weight=torch.tensor(POS_WEIGHT), reduction="sum"
    )
    loss.backward()
    out[f"{case}.classify.output"] = logits.detach().numpy()
    out[f"{case}.classify.loss"] = np.array([loss.item()])
    keep_gradients(f"{case}.classify", model)

# Ten steps of Adam with weight decay in the gradient, on the mean over masked points.
c = CASES["post"]
x, mask = data(c)
model = build(c, "pretrain")
adam = torch.optim.Adam(model.parameters(), lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.005, foreach=False)
losses = []
for _ in range(10):
    adam.zero_grad()
    loss = (mask * (model.reconstruction(x * (1 - mask)) - x) ** 2).sum() / mask.sum()
    loss.backward()
    adam.step()
    losses.append(loss.item())
out["adam.losses"] = np.array(losses)
out["adam.weights"] = np.concatenate([p.detach().numpy().ravel() for p in model.parameters()])
meta["adam.names"] = " ".join(name for name, _ in model.named_parameters())

print("torch", torch.__version__, "numpy", np.__version__)
print({k: v.shape for k, v in out.items()})
print(losses)
save_file({k: np.ascontiguousarray(v) for k, v in out.items()}, "oracle.safetensors", metadata=meta)
