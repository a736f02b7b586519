"""`heartlore prepare` beside the same work in Python: wfdb reads, SciPy filters, resamples; windows are cut and normalised.

    python -m venv V && V/bin/pip install numpy scipy wfdb
    cargo build --release && V/bin/python benches/peers/prepare.py --hours 200

Makes `--hours` one-hour WFDB records (format 16, 256 Hz, noise with a beat every 0.8 s) in a temporary directory. heartlore
runs once as it comes (with its quality gate, which the script has not) and once without the gate. The script uses one
process per core, as its author would.
"""

import argparse
import concurrent.futures
import json
import os
import resource
import shutil
import subprocess
import tempfile
import time

import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("--hours", type=int, default=100)
parser.add_argument("--threads", type=int, default=os.cpu_count())
args = parser.parse_args()
FS = 256


def make(directory):
    rng = np.random.default_rng(1)
    t = np.arange(3600 * FS) / FS
    beat = np.exp(-(((t % 0.8) - 0.4) / 0.012) ** 2) + 0.2 * np.exp(-(((t % 0.8) - 0.62) / 0.05) ** 2)
    for i in range(args.hours):
        samples = 1000 * beat * (1 + 0.1 * np.sin(0.3 * t + i)) + 20 * rng.standard_normal(t.size)
        samples.astype("<i2").tofile(f"{directory}/r{i:04}.dat")
        with open(f"{directory}/r{i:04}.hea", "w") as header:
            print(f"r{i:04} 1 {FS} {t.size}\nr{i:04}.dat 16 1000/mV 16 0 0 0 0 ECG", file=header)


def one(path):
    import wfdb
    from scipy.signal import butter, resample_poly, sosfiltfilt

    x = wfdb.rdrecord(path).p_signal[:, 0]
    x = resample_poly(sosfiltfilt(butter(8, [0.8, 50], "bandpass", fs=FS, output="sos"), x), 1, 2)
    w = x[: x.size // 1280 * 1280].reshape(-1, 1280)
    return ((w - w.mean(1, keepdims=True)) / w.std(1, keepdims=True)).astype(np.float32)


def script(directory, out):
    paths = [f"{directory}/r{i:04}" for i in range(args.hours)]
    with concurrent.futures.ProcessPoolExecutor(args.threads) as pool:
        np.save(out, np.concatenate(list(pool.map(one, paths))))


def timed(what, call):
    start = time.perf_counter()
    call()
    seconds = time.perf_counter() - start
    return {"what": what, "seconds": round(seconds, 2), "hours_of_ecg_per_hour": round(3600 * args.hours / seconds)}


def ours(directory, out, *flags):
    command = ["target/release/heartlore", "prepare", directory, "--out", out, "--threads", str(args.threads), *flags]
    subprocess.run(command, check=True, capture_output=True)


with tempfile.TemporaryDirectory() as scratch:
    data = f"{scratch}/data"
    os.mkdir(data)
    make(data)
    results = []
    for _ in range(2):
        results.append(timed("heartlore", lambda: ours(data, f"{scratch}/a")))
        results.append(timed("heartlore, no gate", lambda: ours(data, f"{scratch}/b", "--quality=false")))
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        results.append(timed("SciPy and wfdb", lambda: script(data, f"{scratch}/c.npy")))
        shutil.rmtree(f"{scratch}/a")
        shutil.rmtree(f"{scratch}/b")
        results[-3]["peak_mib"] = round(peak) if len(results) == 3 else None
    for r in results:
        print(json.dumps(r))
