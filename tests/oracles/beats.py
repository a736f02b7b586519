"""Other detectors' beats on the recordings of `tests/beats_real.rs`, and on generated pauses, beside heartlore's.

    pip install neurokit2 sleepecg wfdb
    python tests/oracles/beats.py FOLDER [path/to/heartlore]

FOLDER holds `raw/mitdb` and `raw/ludb` as the data sets publish them. A beat counts as found within 150 ms (ANSI/AAMI EC57),
each annotated beat once; in LUDB between the first and the last QRS that is marked. Prints a table per record and rhythm.
"""

import csv
import io
import pathlib
import subprocess
import sys
import tempfile
import warnings

import neurokit2
import numpy as np
import sleepecg
import wfdb
import wfdb.processing

warnings.filterwarnings("ignore")
BEATS = set("NLRBAaJSVrFejnE/fQ?")


def agreement(found, truth, tolerance=0.15):
    i = j = matched = 0
    while i < len(found) and j < len(truth):
        d = found[i] - truth[j]
        if abs(d) <= tolerance:
            matched, i, j = matched + 1, i + 1, j + 1
        elif d < 0:
            i += 1
        else:
            j += 1
    return np.array([len(truth), len(truth) - matched, len(found) - matched])


def heartlore(program):
    def detect(x, fs):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "x.npy"
            np.save(path, np.asarray(x, dtype="<f8"))
            command = [program, "beats", str(path), "--fs-hz", repr(float(fs)), "--unit", "mV"]
            text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return [int(row["sample"]) for row in csv.DictReader(io.StringIO(text))]

    return detect


def neurokit(method):
    def detect(x, fs):
        clean = neurokit2.ecg_clean(x, sampling_rate=int(fs), method=method)
        return neurokit2.ecg_peaks(clean, sampling_rate=int(fs), method=method)[1]["ECG_R_Peaks"]

    return detect


def xqrs(x, fs):
    return wfdb.processing.xqrs_detect(sig=np.asarray(x), fs=int(fs), verbose=False)


def signals(folder):
    """(set, record, rhythm, samples, rate, true times)"""
    for header in sorted((folder / "raw/mitdb").glob("*.hea")):
        record = wfdb.rdrecord(str(header.with_suffix("")))
        notes = wfdb.rdann(str(header.with_suffix("")), "atr")
        truth = [s / record.fs for s, a in zip(notes.sample, notes.symbol) if a in BEATS]
        yield "mitdb", record.record_name, "all rhythms", record.p_signal[:, 0], record.fs, truth
    for header in sorted((folder / "raw/ludb").glob("*.hea")):
        record = wfdb.rdrecord(str(header.with_suffix("")))
        rhythm = next((c.split(":")[1].strip(" .") for c in record.comments if c.startswith("Rhythm")), "unknown")
        for k, lead in enumerate(record.sig_name):
            notes = wfdb.rdann(str(header.with_suffix("")), lead)
            truth = [s / record.fs for s, a in zip(notes.sample, notes.symbol) if a in BEATS]
            yield "ludb", record.record_name, rhythm, record.p_signal[:, k], record.fs, truth


def generated():
    """Beats of 1 mV in noise, at several rates and with a pause."""
    rng = np.random.default_rng(1)
    fs = 250

    def make(times, seconds, noise):
        t = np.arange(int(seconds * fs)) / fs
        x = noise * rng.standard_normal(len(t))
        for b in times:
            for a, at, w in [(0.12, -0.16, 0.025), (-0.1, -0.025, 0.01), (1, 0, 0.011), (-0.2, 0.025, 0.01), (0.3, 0.3, 0.05)]:
                x += a * np.exp(-0.5 * ((t - b - at) / w) ** 2)
        return x

    for pause in [3.4, 6, 12, 30]:
        first = np.arange(0.7, 24, 0.857)
        times = np.concatenate([first, np.arange(first[-1] + pause, first[-1] + pause + 24, 0.857)])
        for noise in [0.0, 0.01]:
            yield f"pause of {pause} s", f"noise {noise * 1000:.0f} uV", make(times, times[-1] + 1, noise), fs, times
    for bpm in [15, 25, 40, 60, 120, 180]:
        times = np.arange(1, 59, 60 / bpm)
        yield f"{bpm} a minute", "noise 10 uV", make(times, 60, 0.01), fs, times


def main():
    folder = pathlib.Path(sys.argv[1])
    detectors = {
        "neurokit": neurokit("neurokit"),
        "nk pan-tompkins": neurokit("pantompkins1985"),
        "wfdb xqrs": xqrs,
        "sleepecg": lambda x, fs: sleepecg.detect_heartbeats(np.asarray(x, dtype=float), fs),
    }
    if len(sys.argv) > 2:
        detectors = {"heartlore": heartlore(sys.argv[2]), **detectors}
    totals = {}

    def run(keys, x, fs, truth, ends):
        for name, detect in detectors.items():
            try:
                found = np.asarray(detect(x, fs)) / fs
            except Exception:  # a detector that fails has found nothing
                found = np.array([])
            if ends:
                found = found[(found >= truth[0] - 0.15) & (found <= truth[-1] + 0.15)]
            counts = agreement(sorted(found), truth)
            for key in keys:
                totals.setdefault(key, {}).setdefault(name, np.zeros(3, int))
                totals[key][name] += counts

    for source, record, rhythm, x, fs, truth in signals(folder):
        run([f"{source} {record}", f"{source}: {rhythm}", f"{source}: all"], x, fs, truth, source == "ludb")
    for what, noise, x, fs, truth in generated():
        run([f"made: {what}, {noise}"], x, fs, truth, False)
    print("missed / extra")
    print("| recordings | beats | " + " | ".join(detectors) + " |")
    print("|---" * (2 + len(detectors)) + "|")
    for key in sorted(totals):
        row = totals[key]
        beats = next(iter(row.values()))[0]
        print(f"| {key} | {beats} | " + " | ".join(f"{row[n][1]} / {row[n][2]}" for n in detectors) + " |")
    print({p.__name__: p.__version__ for p in (neurokit2, sleepecg, wfdb, np)})


main()
