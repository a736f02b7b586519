"""Ten steps of torch.optim.Adam and AdamW, one line of text per array: the oracle of kernels/src/adam/tests.rs.

Made with Python 3.11 and PyTorch 2.15.0, CPU, one tensor at a time (foreach=False). Run: python adam.py > adam.txt
"""

import sys

import torch

N, STEPS = 11, 10
CASES = {
    # name: (class, lr, beta1, beta2, eps, weight_decay, max_norm or 0)
    "adam": (torch.optim.Adam, 1e-2, 0.9, 0.999, 1e-8, 0.0, 0.0),
    "adam_l2": (torch.optim.Adam, 3e-3, 0.8, 0.95, 1e-6, 0.1, 0.0),
    "adamw": (torch.optim.AdamW, 5e-3, 0.9, 0.98, 1e-8, 0.05, 0.0),
    "adam_low_beta": (torch.optim.Adam, 1e-2, 0.25, 0.5, 1e-3, 0.0, 0.0),
    "adamw_clipped": (torch.optim.AdamW, 1e-2, 0.9, 0.999, 1e-8, 0.01, 0.7),
}


def line(name, values):
    print(name, " ".join(repr(float(v)) for v in values))


def main():
    print(f"# torch {torch.__version__.split('+')[0]}, python {sys.version.split()[0]}; n {N}, steps {STEPS}")
    for name, (cls, lr, beta1, beta2, eps, decay, max_norm) in CASES.items():
        print("case", name)
        line("settings", [lr, beta1, beta2, eps, decay, cls is torch.optim.AdamW, max_norm])
        generator = torch.Generator().manual_seed(20)
        # Drawn in f32, so that both precisions start from the same numbers; gradients of many magnitudes, one always 0.
        start = torch.randn(N, generator=generator)
        magnitude = torch.logspace(-6, 1, N)
        magnitude[4] = 0.0
        grads = [torch.randn(N, generator=generator) * magnitude for _ in range(STEPS)]
        line("start", start)
        for g in grads:
            line("grad", g)
        for kind in (torch.float64, torch.float32):
            p = torch.nn.Parameter(start.to(kind).clone())
            optimiser = cls([p], lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=decay, foreach=False)
            for g in grads:
                p.grad = g.to(kind).clone()
                if max_norm > 0:
                    torch.nn.utils.clip_grad_norm_([p], max_norm, foreach=False)
                optimiser.step()
                if kind == torch.float64:
                    line("param64", p.detach())
            state = optimiser.state[p]
            tag = "64" if kind == torch.float64 else "32"
            line("final" + tag, p.detach())
            line("m" + tag, state["exp_avg"])
            line("v" + tag, state["exp_avg_sq"])


main()
