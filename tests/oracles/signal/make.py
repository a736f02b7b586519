"""Makes the oracle files of tests/signal.rs: run it in this directory with NumPy and SciPy installed.

Made with NumPy 2.4.6, SciPy 1.17.1, Python 3.11. One case per block: a line '# name', then lines of comma-separated
numbers with 17 significant digits.
"""

import numpy as np
import scipy
from scipy import signal as s

print("numpy", np.__version__, "scipy", scipy.__version__)


def line(v):
    return ",".join(f"{x:.17g}" for x in np.ravel(v)) + "\n"


def test_signal(n):
    """A rough wave with an offset and a drift; tests/signal.rs spells it again, in integers until the last division."""
    i = np.arange(n)
    return ((i * i * 31 + i * 17) % 1009 - 500) / 250.0 + (i % 97) / 30.0 + i / 200.0


BANDS = [
    ("lowpass", 40.0), ("highpass", 0.5), ("bandpass", (0.8, 50.0)), ("bandstop", (48.0, 52.0)),
    ("bandpass", (5.0, 15.0)), ("bandpass", (1.0, 115.0)), ("bandstop", (10.0, 90.0)), ("lowpass", 120.0),
]

with open("butter.txt", "w") as f:
    for fs in (256.0, 1000.0):
        for btype, wn in BANDS:
            for order in (1, 2, 3, 4, 5, 8):
                edges = wn if isinstance(wn, tuple) else (wn,)
                name = " ".join(str(e) for e in edges)
                f.write(f"# {btype} {order} {fs} {name}\n")
                for row in s.butter(order, wn, btype, fs=fs, output="sos"):
                    f.write(line(row))

with open("filter.txt", "w") as f:
    x = test_signal(300)
    for btype, wn, order in [("bandpass", (0.8, 50.0), 4), ("lowpass", 40.0, 3), ("highpass", 0.5, 1),
                             ("bandstop", (48.0, 52.0), 2)]:
        sos = s.butter(order, wn, btype, fs=256.0, output="sos")
        edges = wn if isinstance(wn, tuple) else (wn,)
        f.write(f"# {btype} {order} 256.0 {' '.join(str(e) for e in edges)}\n")
        zi = s.sosfilt_zi(sos)
        f.write(line(zi))
        f.write(line(s.sosfilt(sos, x)))
        y, zf = s.sosfilt(sos, x, zi=zi * x[0])
        f.write(line(y))
        f.write(line(zf))
        f.write(line(s.sosfiltfilt(sos, x)))
        f.write(line(s.sosfiltfilt(sos, x, padlen=100)))
        f.write(line(s.sosfiltfilt(sos, x, padlen=0)))

with open("resample.txt", "w") as f:
    for fs in (500, 360, 256, 1000, 300, 128, 64, 100):
        for n in (1, 37, 400):
            for beta in (5.0, 8.0):
                if beta == 8.0 and n != 400:
                    continue
                f.write(f"# {fs} {n} {beta}\n")
                f.write(line(s.resample_poly(test_signal(n), 128, fs, window=("kaiser", beta))))
