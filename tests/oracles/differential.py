"""Differential reading: generated EDF, BDF, WFDB, MATLAB and NumPy files, read by heartlore and by other programs.

    python tests/oracles/differential.py path/to/heartlore [--files 2000] [--seed 1]

Needs numpy, scipy, h5py, wfdb and pyedflib (tried with numpy 2.4, scipy 1.17, h5py 3.16, wfdb 4.3, pyedflib 0.1.42). Each file
is drawn (formats, scales, rates, channels, gaps, lengths), written by the other program or by hand where that program
cannot write it, and read by both. The values of every channel are compared through `heartlore inspect --json` (minimum,
maximum, missing, samples, rate, unit) and, for one channel of each file, sample by sample through `heartlore prepare`
without filter, resampling, quality gate and normalisation, which keeps the values as f32. Exit code 1 if any differs.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import warnings

import h5py
import numpy as np
import pyedflib
import scipy.io
import wfdb


def heartlore(program, *arguments):
    out = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    return out.returncode, out.stdout, out.stderr


def draw_signal(rng, n):
    x = rng.normal(0, 0.2, n) + np.sin(np.arange(n) * rng.uniform(0.01, 0.3))
    return x * 10 ** rng.uniform(-1, 1)


def make_edf(rng, path, bdf):
    count = int(rng.integers(1, 5))
    kind = (pyedflib.FILETYPE_BDFPLUS, pyedflib.FILETYPE_BDF) if bdf else (pyedflib.FILETYPE_EDFPLUS, pyedflib.FILETYPE_EDF)
    writer = pyedflib.EdfWriter(str(path), count, file_type=int(rng.choice(kind)))
    lowest, highest = (-8388608, 8388607) if bdf else (-32768, 32767)
    signals = []
    seconds = int(rng.integers(3, 12))
    for i in range(count):
        fs = int(rng.choice([50, 100, 125, 128, 250, 256, 500, 1000]))
        x = draw_signal(rng, fs * seconds)
        writer.setSignalHeader(i, {
            "label": "ECG" if i == 0 else f"X{i}", "dimension": str(rng.choice(["mV", "uV", "V"])), "sample_frequency": fs,
            "physical_max": float(np.round(np.abs(x).max() * rng.uniform(1.1, 3), 3)) + 0.001,
            "physical_min": -float(np.round(np.abs(x).max() * rng.uniform(1.1, 3), 3)) - 0.001,
            "digital_max": highest, "digital_min": lowest, "transducer": "", "prefilter": ""})
        signals.append(x)
    writer.writeSamples(signals)
    writer.close()
    with pyedflib.EdfReader(str(path)) as reader:
        return [(reader.readSignal(i), reader.getSampleFrequency(i)) for i in range(count)], []


def make_wfdb(rng, path):
    count = int(rng.integers(1, 4))
    fs = float(rng.choice([100, 128, 250, 360, 500, 249.925, 512.844]))
    n = int(fs * rng.uniform(3, 10))
    fmt = str(rng.choice(["16", "212", "80", "24", "32", "61", "160", "310", "311"]))
    if fmt in ("61", "160", "310", "311"):
        # wfdb-python reads but does not write these.
        fmt = "16"
    # Resolutions that each format holds.
    top = {"16": 30000, "212": 2000, "80": 120, "24": 8000000, "32": 2000000000}[fmt]
    signals = np.stack([draw_signal(rng, n) for _ in range(count)], axis=1)
    gain = [float(np.float32(top * 0.9 / np.abs(signals[:, c]).max())) for c in range(count)]
    digital = np.stack([np.round(signals[:, c] * gain[c]) for c in range(count)], axis=1).astype(np.int64)
    missing = rng.random(n) < 0.01
    if rng.random() < 0.3:
        digital[missing, 0] = {"16": -32768, "212": -2048, "80": -128, "24": -8388608, "32": -2147483648}[fmt]
    baseline = [int(rng.integers(-50, 50)) for _ in range(count)]
    wfdb.wrsamp(path.stem, fs=fs, units=["mV"] * count, sig_name=["ECG" if c == 0 else f"X{c}" for c in range(count)],
                d_signal=digital, fmt=[fmt] * count, adc_gain=gain, baseline=baseline, write_dir=str(path.parent))
    record = wfdb.rdrecord(str(path.with_suffix("")))
    return [(record.p_signal[:, c], record.fs) for c in range(count)], []


def make_matlab(rng, path, version):
    rows, columns = sorted([int(rng.integers(1, 4)), int(rng.integers(600, 3000))])
    x = np.stack([draw_signal(rng, columns) for _ in range(rows)])
    kind = str(rng.choice(["f8", "f4", "i2", "i4", "u2"]))
    x = (x * 1000 + (5000 if kind == "u2" else 0)).astype(kind) if kind[0] in "iu" else x.astype(kind)
    if rng.random() < 0.5:
        x = x.T
    if version == "h5":
        # libver="latest" of HDF5 2.0 writes chunks in a layout (version 5) that hdf5-pure 0.47 does not read: such a file
        # is refused with "invalid data layout version: 5".
        newest = "earliest" if rng.random() < 0.5 else "v112"
        with h5py.File(path, "w", libver=newest if newest == "earliest" else ("v110", newest)) as file:
            options = {"chunks": True, "compression": "gzip"} if rng.random() < 0.5 else {}
            file.create_dataset("val", data=x, **options)
            if rng.random() < 0.3:
                file.create_group("other")["link"] = h5py.SoftLink("/val")
        # heartlore numbers the channels along the shorter dimension of either order.
        read = h5py.File(path)["val"][()]
    else:
        scipy.io.savemat(path, {"val": x}, format=version, do_compression=bool(version == "5" and rng.random() < 0.5))
        read = scipy.io.loadmat(path)["val"]
    read = read if read.shape[0] <= read.shape[1] else read.T
    return [(np.asarray(c, float), 250.0) for c in read], ["--record", "val", "--fs-hz", "250", "--unit", "arbitrary"]


def make_npy(rng, path):
    count, n = int(rng.integers(1, 4)), int(rng.integers(600, 3000))
    x = np.stack([draw_signal(rng, n) for _ in range(count)])
    kind = str(rng.choice(["<f8", ">f4", "<f2", "<i2", ">i4", "<i8", "<u2", ">u4", "|i1", "|u1"]))
    x = np.clip(x * 20 + (60 if "u" in kind else 0), 0 if "u" in kind else -100, 100).astype(kind)
    x = np.asfortranarray(x) if rng.random() < 0.5 else x.T.copy() if rng.random() < 0.5 else x
    np.save(path, x)
    read = np.load(path)
    read = read if read.shape[0] < read.shape[1] else read.T
    return [(np.asarray(c, float), 250.0) for c in read], ["--fs-hz", "250", "--unit", "arbitrary"]


# pyedflib warns when it shortens a limit to the eight characters of its field; what counts is what it then reads.
warnings.simplefilter("ignore")

FORMATS = {
    "edf": lambda rng, p: (p.with_suffix(".edf"), make_edf(rng, p.with_suffix(".edf"), False)),
    "bdf": lambda rng, p: (p.with_suffix(".bdf"), make_edf(rng, p.with_suffix(".bdf"), True)),
    "wfdb": lambda rng, p: (p.with_suffix(".hea"), make_wfdb(rng, p.with_suffix(".hea"))),
    "mat4": lambda rng, p: (p.with_suffix(".mat"), make_matlab(rng, p.with_suffix(".mat"), "4")),
    "mat5": lambda rng, p: (p.with_suffix(".mat"), make_matlab(rng, p.with_suffix(".mat"), "5")),
    "hdf5": lambda rng, p: (p.with_suffix(".h5"), make_matlab(rng, p.with_suffix(".h5"), "h5")),
    "npy": lambda rng, p: (p.with_suffix(".npy"), make_npy(rng, p.with_suffix(".npy"))),
}


def compare(program, path, channels, flags):
    """What differs, as text; None if nothing does."""
    code, out, error = heartlore(program, "inspect", path, "--json", *flags)
    if code != 0:
        return f"inspect: {error.strip()}"
    seen = json.loads(out)["channels"]
    if len(seen) != len(channels):
        return f"{len(seen)} channels, not {len(channels)}"
    for number, (channel, (x, fs)) in enumerate(zip(seen, channels)):
        finite = x[np.isfinite(x)]
        same = (channel["samples"] == len(x) and channel["missing"] == int(np.isnan(x).sum())
                and abs(channel["fs_hz"] - fs) <= 1e-9 * fs)
        scale = max(1e-300, np.abs(finite).max(initial=0))
        ends = len(finite) == 0 or max(abs(channel["min"] - finite.min()), abs(channel["max"] - finite.max())) <= 1e-12 * scale
        if not (same and ends):
            return f"channel {number + 1}: {channel} against {len(x)} samples at {fs} Hz, {finite.min()} to {finite.max()}"
    # Sample by sample, of the first channel, from the start of its longest stretch without missing samples.
    x, fs = channels[0]
    store = path.parent / "store"
    unit = {"mV": 1.0, "uV": 1e-3, "V": 1e3}.get(seen[0]["unit"], 1.0)
    edges = np.flatnonzero(np.diff(np.concatenate([[1], np.isnan(x).astype(int), [1]])))
    runs = [(a, b) for a, b in zip(edges[::2], edges[1::2])]
    window = min(256, max(b - a for a, b in runs))
    flags = [f for f in flags]
    if "arbitrary" not in flags:
        # Amplitudes here are drawn, and mean nothing.
        flags += ["--unit", "arbitrary"] if unit == 1.0 else []
    code, _, error = heartlore(
        program, "prepare", path, "--out", store, "--overwrite", "--quiet", "--filter=false", "--quality=false",
        "--normalisation", "none", "--rate-hz", fs, "--window", window, "--hop", window, "--channel", "#1", *flags)
    if code != 0:
        # Amplitudes that no ECG has are refused by `prepare`, as they should be.
        return None if "no ECG is" in error else f"prepare: {error.strip()}"
    got = np.load(store / "windows.npy").astype(float)
    due = np.concatenate([[x[a + k * window: a + (k + 1) * window] for k in range((b - a) // window)]
                          for a, b in runs if (b - a) >= window])
    due = due * unit
    if got.shape != due.shape:
        return f"windows {got.shape}, not {due.shape}"
    worst = np.abs(got - due.astype(np.float32)).max()
    return None if worst <= 1e-6 * max(1e-30, np.abs(due).max()) else f"samples differ by {worst}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    counts, bad = {}, 0
    with tempfile.TemporaryDirectory() as folder:
        for n in range(arguments.files):
            name = list(FORMATS)[n % len(FORMATS)]
            path, (channels, flags) = FORMATS[name](rng, pathlib.Path(folder) / f"x{n}")
            difference = compare(arguments.program, path, channels, flags)
            counts[name] = counts.get(name, 0) + 1
            if difference:
                bad += 1
                print(f"{name} {n}: {difference}", flush=True)
            for part in pathlib.Path(folder).glob(f"x{n}.*"):
                part.unlink()
    print(", ".join(f"{name}: {count}" for name, count in counts.items()), f"; {bad} differ")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
