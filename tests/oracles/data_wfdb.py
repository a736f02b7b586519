"""Makes the small WFDB records under tests/oracles/data/wfdb in every format, with the values wfdb-python reads.

usage: python data_wfdb.py   (in any directory)
Made with Python 3.11, numpy 2.4.6, wfdb 4.3.1. Formats that wfdb-python does not write (8, 61, 160, 310, 311) are packed
here after the format's description, and read back by wfdb.rdrecord.
"""
import os

import numpy as np
import wfdb

out = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "wfdb")
os.makedirs(out, exist_ok=True)
os.chdir(out)
rng = np.random.default_rng(11)


def pack(fmt, x):
    """Bytes of the interleaved samples x in a format."""
    x = np.asarray(x)
    u = x & 0x3FF
    if fmt == "8":
        return x.astype("i1").tobytes()
    if fmt in ("16", "61"):
        return x.astype("<i2" if fmt == "16" else ">i2").tobytes()
    if fmt == "160":
        return (x + 32768).astype("<u2").tobytes()
    if fmt == "80":
        return (x + 128).astype("u1").tobytes()
    u = np.concatenate([u, np.zeros(-len(u) % 3, int)])
    a, b, c = u[0::3], u[1::3], u[2::3]
    if fmt == "310":
        words = np.stack([(a << 1) | ((c & 31) << 11), (b << 1) | ((c >> 5) << 11)], 1).astype("<u2")
        return words.tobytes()
    if fmt == "311":
        return (a | (b << 10) | (c << 20)).astype("<u4").tobytes()
    raise ValueError(fmt)


def checksum(x):
    s = int(np.sum(x)) & 0xFFFF
    return s - 65536 if s >= 32768 else s


def header(name, fs, n, lines):
    with open(name + ".hea", "w", newline="\n") as f:
        f.write(f"{name} {len(lines)} {fs} {n}\n" + "".join(l + "\n" for l in lines))


def expect(name, **keys):
    np.save(name + "_expected.npy", wfdb.rdrecord(name, **keys).p_signal)


# ---- one record per format, two signals; the second has a missing sample where the format knows one
low = {"16": -32768, "61": -32768, "160": -32768, "80": -128, "310": -512, "311": -512}
for fmt, n in [("61", 20), ("160", 20), ("80", 20), ("310", 20), ("310", 25), ("311", 20), ("311", 25)]:
    name = f"f{fmt}_{n}"
    x = rng.integers(low[fmt] + 1, -low[fmt], (n, 2))
    x[3, 1] = low[fmt]
    x[4] = [low[fmt] + 1, -low[fmt] - 1]
    with open(name + ".dat", "wb") as f:
        f.write(pack(fmt, x.reshape(-1)))
    header(name, 100, n, [f"{name}.dat {fmt} 200(7)/mV 10 0 {x[0, i]} {checksum(x[:, i])} 0 lead {i}" for i in range(2)])
    expect(name)
for fmt, bits in [("24", 24), ("32", 32)]:
    x = rng.integers(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1), (20, 2))
    x[3, 1] = -(2 ** (bits - 1))
    wfdb.wrsamp(f"f{fmt}_20", fs=100, units=["mV", "mV"], sig_name=["a", "b"], d_signal=x, fmt=[fmt] * 2,
                adc_gain=[300.0, 7.0], baseline=[5, -9])
    expect(f"f{fmt}_20")
# Format 8: differences, the first one from the header's initial value.
d = rng.integers(-128, 128, (30, 2))
init = [500, -40]
x = np.cumsum(d, 0) + init
with open("f8_30.dat", "wb") as f:
    f.write(pack("8", d.reshape(-1)))
header("f8_30", 100, 30, [f"f8_30.dat 8 100/mV 12 0 {init[i]} {checksum(x[:, i])} 0 lead {i}" for i in range(2)])
expect("f8_30")

# ---- several samples per frame, two files, a skewed signal, a byte offset
a, b, c = (rng.integers(-3000, 3000, n) for n in (24, 96, 48))
frames = np.concatenate([a.reshape(24, 1), b.reshape(24, 4)], 1)
with open("many_1.dat", "wb") as f:
    f.write(pack("16", frames.reshape(-1)))
with open("many_2.dat", "wb") as f:
    f.write(b"seven b" + pack("61", c))
header("many", 50, 24, [
    f"many_1.dat 16:3 100/mV 12 0 {a[0]} {checksum(a)} 0 resp",
    f"many_1.dat 16x4 400/mV 12 0 {b[0]} {checksum(b)} 0 ECG",
    f"many_2.dat 61x2:2+7 10/uV 12 0 {c[0]} {checksum(c)} 0 other"])
r = wfdb.rdrecord("many", smooth_frames=False)
# wfdb-python marks `skew` samples as missing at the end where `skew` frames are, and leaves the others at digital 0.
assert list(r.e_p_signal[2][-4:-2]) == [0, 0]
r.e_p_signal[2][-4:] = np.nan
for i, s in enumerate(r.e_p_signal):
    np.save(f"many_{i}_expected.npy", s)


# ---- segments: fixed layout, and variable layout with a gap, a missing signal and another gain
def segment(name, n, signals, fmt="16"):
    x = rng.integers(-2000, 2000, (n, len(signals)))
    with open(name + ".dat", "wb") as f:
        f.write(pack(fmt, x.reshape(-1)))
    header(name, 125, n, [f"{name}.dat {fmt} {gain}/mV 12 0 {x[0, i]} {checksum(x[:, i])} 0 {label}"
                          for i, (label, gain) in enumerate(signals)])


segment("fix_1", 10, [("II", 100), ("V", 200)])
segment("fix_2", 13, [("II", 100), ("V", 200)], "61")
with open("fix.hea", "w", newline="\n") as f:
    f.write("fix/2 2 125 23\nfix_1 10\nfix_2 13\n")
expect("fix")
header("var_layout", 125, 0, ["~ 0 200/mV 12 0 0 0 0 II", "~ 0 200/mV 12 0 0 0 0 V", "~ 0 200/mV 12 0 0 0 0 III"])
segment("var_1", 10, [("V", 100), ("II", 250)])
segment("var_2", 12, [("III", 100), ("II", 200)])
with open("var.hea", "w", newline="\n") as f:
    f.write("var/4 3 125 29\nvar_layout 0\nvar_1 10\n~ 7\nvar_2 12\n")
expect("var")

# ---- annotations with every field
symbols = ["N", "V", "+", "N", "~", "A"]
at = np.array([5, 90, 91, 3000, 70000, 70010])
wfdb.wrann("full", "atr", at, symbol=symbols, subtype=np.array([0, 1, 0, 0, -3, 0]), chan=np.array([0, 0, 1, 1, 1, 0]),
           num=np.array([0, 0, 2, 2, 2, 5]), aux_note=["", "", "(VT", "", "odd", ""], fs=360)
r = wfdb.rdann("full", "atr")
with open("full_expected.csv", "w", newline="\n") as f:
    for i in range(len(r.sample)):
        f.write(f"{r.sample[i]},{r.symbol[i]},{r.subtype[i]},{r.chan[i]},{r.num[i]},{r.aux_note[i]}\n")
assert r.fs == 360
wfdb.wrann("own", "atr", np.array([4, 8]), symbol=["N", "W"], custom_labels=[(45, "W", "wake")], fs=100)
assert wfdb.rdann("own", "atr").symbol == ["N", "W"]

# ---- FLAC (soundfile 0.14.0, libFLAC): every kind of subframe, stereo, several samples per frame, an offset in samples
t = np.arange(600)
ecg = 900 * np.exp(-(((t % 128) - 40) / 3.0) ** 2) + 120 * np.sin(t / 9.0) + rng.normal(0, 3, 600)
kinds = np.stack([ecg.round(), np.full(600, -77), rng.integers(-32767, 32768, 600), 64 * (ecg / 8).round()], 1).astype(int)
kinds[5, 0] = -32768
stereo = np.stack([ecg.round(), (1.02 * ecg).round() + 3], 1).astype(int)
for name, fmt, x in [("flac516", "516", kinds), ("flacstereo", "516", stereo), ("flac508", "508", stereo[:, :1] // 8),
                     ("flac524", "524", stereo * 1000)]:
    n = x.shape[1]
    if fmt == "508":
        x[7] = -128
    wfdb.wrsamp(name, fs=250, units=["mV"] * n, sig_name=[f"lead {i}" for i in range(n)], d_signal=x, fmt=[fmt] * n,
                adc_gain=[200.0 + i for i in range(n)], baseline=[3 - i for i in range(n)])
    expect(name)
# Two samples per frame, and the record begins 100 samples into the stream.
os.replace("flacstereo.dat", "flac2.dat")
header("flac2", 125, 250, [f"flac2.dat 516x2+100 200/mV 16 0 {stereo[100, i]} {checksum(stereo[100:, i])} 0 lead {i}"
                           for i in range(2)])
with open("flacstereo.hea") as f:
    text = f.read().replace("flacstereo.dat", "flac2.dat")
with open("flacstereo.hea", "w", newline="\n") as f:
    f.write(text)
r = wfdb.rdrecord("flac2", smooth_frames=False)
for i, s in enumerate(r.e_p_signal):
    np.save(f"flac2_{i}_expected.npy", s)
