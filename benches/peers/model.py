"""The model of the `paper` preset in PyTorch, by its fused building blocks: what its users would write for speed."""

import logging
import math

import torch
import torch.nn.functional as F
from torch import nn

WINDOW, WIDTH, HEADS, HIDDEN, LAYERS = 1280, 256, 2, 1024, 2


class Block(nn.Module):
    """A post-norm transformer layer with one product for q, k, v and PyTorch's fused attention."""

    def __init__(self, dropout, attention_dropout):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.dropout, self.attention_dropout = dropout, attention_dropout

    def split(self, x):
        return x.unflatten(-1, (-1, HEADS, WIDTH // HEADS)).permute(2, 0, 3, 1, 4)

    def forward(self, x, rows):
        """rows: 'all', or 'first' to compute the first row only (the rest is never read)."""
        p = self.attention_dropout if self.training else 0.0
        if rows == "all":
            q, k, v = self.split(self.qkv(x))
        else:
            w, b = self.qkv.weight, self.qkv.bias
            k, v = self.split(F.linear(x, w[WIDTH:], b[WIDTH:]))
            x = x[:, :1]
            (q,) = self.split(F.linear(x, w[:WIDTH], b[:WIDTH]))
        a = F.scaled_dot_product_attention(q, k, v, dropout_p=p)
        a = self.out(a.transpose(1, 2).flatten(2))
        x = self.norm1(x + F.dropout(a, self.dropout, self.training))
        h = F.dropout(F.relu(self.up(x)), self.dropout, self.training)
        return self.norm2(x + F.dropout(self.down(h), self.dropout, self.training))


class Model(nn.Module):
    def __init__(self, head, dropout=0.1, attention_dropout=0.1, pruned=False):
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv1d(i, o, k, padding=k // 2) for i, o, k in [(1, 64, 65), (64, 128, 33), (128, WIDTH, 17)]
        )
        self.conv_norm = nn.LayerNorm(64)
        self.cls = nn.Parameter(torch.zeros(WIDTH))
        # In f64: an angle of 1280 rounded to f32 is off by up to 6e-5.
        frequency = torch.exp(torch.arange(0, WIDTH, 2, dtype=torch.float64) * (-math.log(1e4) / WIDTH))
        angle = torch.arange(WINDOW + 1)[:, None] * frequency
        self.register_buffer("positions", torch.stack([angle.sin(), angle.cos()], -1).flatten(1).float())
        self.embed_norm = nn.LayerNorm(WIDTH)
        self.blocks = nn.ModuleList(Block(dropout, attention_dropout) for _ in range(LAYERS))
        self.dropout, self.head_kind, self.pruned = dropout, head, pruned
        if head == "reconstruct":
            self.head = nn.Linear(WIDTH, 1)
        else:
            drop = nn.Dropout(0.3)
            self.head = nn.Sequential(
                nn.Linear(WIDTH, 1024), nn.ReLU(), drop, nn.Linear(1024, 512), nn.ReLU(), drop, nn.Linear(512, 1)
            )

    def forward(self, x):
        x = x.unsqueeze(1)
        for i, conv in enumerate(self.convolutions):
            x = conv(x)
            if i == 0:
                x = self.conv_norm(x.transpose(1, 2)).transpose(1, 2)
            x = F.relu(x)
        x = torch.cat([self.cls.expand(x.shape[0], 1, -1), x.transpose(1, 2)], 1) + self.positions
        x = F.dropout(self.embed_norm(x), self.dropout, self.training)
        for i, block in enumerate(self.blocks):
            x = block(x, "first" if self.pruned and i == LAYERS - 1 else "all")
        return self.head(x[:, 1:] if self.head_kind == "reconstruct" else x[:, 0]).squeeze(-1)


HEAD = {"0": "0", "3": "1", "6": "2"}  # places of the linear layers in `head` and their numbers in heartlore


def heartlore_name(name, head):
    """The name of a parameter of `Model` in heartlore's model directory."""
    part, _, rest = name.partition(".")
    if part == "convolutions":
        return f"encoder.conv.{rest}"
    if part == "conv_norm":
        return f"encoder.norm.0.{rest}"
    if part == "head":
        place, _, what = rest.partition(".")
        return f"reconstruct.{rest}" if head == "reconstruct" else f"head.{HEAD[place]}.{what}"
    if part == "blocks":
        layer, what, kind = rest.split(".")
        what = {
            "qkv": "self_attn.in_proj_", "out": "self_attn.out_proj.", "up": "linear1.", "down": "linear2.",
            "norm1": "norm1.", "norm2": "norm2.",
        }[what]
        return f"transformer.layers.{layer}.{what}{kind}"
    return name


def to_onnx(model, batch, path):
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # else it regrets that torchvision is missing
    torch.onnx.export(
        model, (torch.zeros(batch, WINDOW),), path, input_names=["x"], output_names=["y"], dynamo=True,
        external_data=False, verbose=False,
    )


def to_int8(path):
    """Quantises the file in place for ONNX Runtime: products with weights, these by channel, activations as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)  # else it advises a preparation that changes nothing here
    # Convolutions stay f32, as in heartlore.
    quantize_dynamic(
        path, path, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True, weight_type=QuantType.QInt8
    )
