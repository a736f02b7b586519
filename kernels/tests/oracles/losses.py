"""Values and gradients of PyTorch's losses in f64: the oracle of kernels/src/losses/tests.rs.

Made with Python 3.11 and PyTorch 2.15.0, CPU. Run: python losses.py > losses.txt
"""

import sys

import torch
from torch.nn import functional as F


def line(name, values):
    print(name, " ".join(repr(float(v)) for v in values.reshape(-1)))


def emit(name, loss, x):
    (grad,) = torch.autograd.grad(loss, x)
    line(name, loss.detach())
    line(name + "_grad", grad)


def main():
    print(f"# torch {torch.__version__.split('+')[0]}, python {sys.version.split()[0]}")
    generator = torch.Generator().manual_seed(3)
    x = 4 * torch.randn(4, 5, generator=generator, dtype=torch.float32).double()
    x[0, 0], x[1, 1], x[2, 2], x[3, 3] = 10000.0, -10000.0, 80.0, -80.0
    t = torch.rand(4, 5, generator=generator, dtype=torch.float32).double()
    hard = (t > 0.5).double()
    labels = torch.tensor([3, 0, 2, 4])
    x.requires_grad_()
    line("x", x.detach())
    line("t", t)
    line("hard", hard)
    line("labels", labels)
    for red in ("mean", "sum"):
        weight = torch.tensor(2.5, dtype=torch.float64)
        emit("bce_" + red, F.binary_cross_entropy_with_logits(x, hard, reduction=red), x)
        emit("bce_weighted_" + red, F.binary_cross_entropy_with_logits(x, t, pos_weight=weight, reduction=red), x)
        emit("ce_" + red, F.cross_entropy(x, labels, reduction=red), x)
        emit("mse_" + red, F.mse_loss(x, t, reduction=red), x)


main()
