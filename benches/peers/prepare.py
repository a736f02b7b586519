"""`heartlore prepare` beside the same work in Python: wfdb or pyedflib reads, SciPy filters, resamples; windows are cut and
normalised.

    python -m venv V && V/bin/pip install numpy scipy wfdb pyedflib
    cargo build --release && V/bin/python benches/peers/prepare.py --hours 200 --format edf

Makes `--hours` one-hour recordings (256 Hz, noise with a beat every 0.8 s) in a temporary directory: WFDB records of format
16, or EDF files. All three do the work in turn, `--rounds` times: the script, heartlore without its quality gate (the same
work: the script has none) and heartlore as it comes, with the gate. Filter, order, rates and windows are the same; what only
heartlore does: SHA-256 of all files read and written, a sync to disk, an index and a manifest. The script uses one process
per core, as its author would; its start, the import of SciPy included, counts, as does heartlore's, so runs of few hours
flatter heartlore. Reported are the median of the wall-clock times, and of the processor time of all threads, which other
work on the machine disturbs less.
"""

import argparse
import concurrent.futures
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("--hours", type=int, default=100)
parser.add_argument("--format", choices=["wfdb", "edf"], default="wfdb")
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--threads", type=int, default=os.cpu_count())
parser.add_argument("--script", nargs=2, metavar=("DATA", "OUT"), help="only the Python side")
args = parser.parse_args()
FS = 256


def make(directory):
    rng = np.random.default_rng(1)
    t = np.arange(3600 * FS) / FS
    beat = np.exp(-(((t % 0.8) - 0.4) / 0.012) ** 2) + 0.2 * np.exp(-(((t % 0.8) - 0.62) / 0.05) ** 2)
    for i in range(args.hours):
        samples = 1000 * beat * (1 + 0.1 * np.sin(0.3 * t + i)) + 20 * rng.standard_normal(t.size)
        samples = samples.astype("<i2")
        name = f"{directory}/r{i:04}"
        if args.format == "edf":
            head = [("0", 8), ("X", 80), ("X", 80), ("01.01.20", 8), ("00.00.00", 8), ("512", 8), ("", 44), ("3600", 8)]
            head += [("1", 8), ("1", 4), ("ECG", 16), ("", 80), ("mV", 8), ("-32.768", 8), ("32.767", 8)]
            head += [("-32768", 8), ("32767", 8), ("", 80), (str(FS), 8), ("", 32)]
            with open(f"{name}.edf", "wb") as file:
                file.write("".join(text.ljust(width) for text, width in head).encode())
                file.write(samples.tobytes())
            continue
        samples.tofile(f"{name}.dat")
        with open(f"{name}.hea", "w") as header:
            print(f"r{i:04} 1 {FS} {t.size}\nr{i:04}.dat 16 1000/mV 16 0 0 0 0 ECG", file=header)


def read(path):
    if args.format == "edf":
        import pyedflib

        with pyedflib.EdfReader(f"{path}.edf") as file:
            return file.readSignal(0)
    import wfdb

    return wfdb.rdrecord(path).p_signal[:, 0]


def one(path):
    from scipy.signal import butter, resample_poly, sosfiltfilt

    x = read(path)
    x = resample_poly(sosfiltfilt(butter(4, [0.8, 50], "bandpass", fs=FS, output="sos"), x), 1, 2)
    w = x[: x.size // 1280 * 1280].reshape(-1, 1280)
    return ((w - w.mean(1, keepdims=True)) / w.std(1, keepdims=True)).astype(np.float32)


def script(directory, out):
    paths = [f"{directory}/r{i:04}" for i in range(args.hours)]
    with concurrent.futures.ProcessPoolExecutor(args.threads) as pool:
        np.save(out, np.concatenate(list(pool.map(one, paths))))


def timed(command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, used, after.ru_maxrss / 1024


def main():
    with tempfile.TemporaryDirectory() as scratch:
        data = f"{scratch}/data"
        os.mkdir(data)
        make(data)
        ours = ["target/release/heartlore", "prepare", data, "--threads", str(args.threads), "--out", f"{scratch}/store"]
        own = [sys.executable, __file__, "--hours", str(args.hours), "--threads", str(args.threads)]
        own += ["--format", args.format]
        # heartlore first: the largest process so far is what the system reports.
        commands = {
            "heartlore": ours,
            "heartlore, no gate": [*ours, "--quality=false"],
            f"SciPy and {'pyedflib' if args.format == 'edf' else 'wfdb'}": [*own, "--script", data, f"{scratch}/c.npy"],
        }
        runs = {what: [] for what in commands}
        for _ in range(args.rounds):
            for what, command in commands.items():
                runs[what].append(timed(command))
                shutil.rmtree(f"{scratch}/store", ignore_errors=True)
        for what, list_of_runs in runs.items():
            seconds, used = (statistics.median(r[i] for r in list_of_runs) for i in range(2))
            result = {
                "what": what,
                "seconds": round(seconds, 2),
                "fastest": round(min(r[0] for r in list_of_runs), 2),
                "processor_seconds": round(used, 2),
                "hours_of_ecg_per_hour": round(3600 * args.hours / seconds),
            }
            if what == "heartlore":
                result["peak_mib"] = round(list_of_runs[0][2])
            print(json.dumps(result))


if __name__ == "__main__":
    if args.script:
        script(*args.script)
    else:
        main()
