"""A whole AMIGOS-like set: 40 people, 20 videos, in the layout of `data_preprocessed` and with its quirks.

    python tests/oracles/amigos_like.py FOLDER [PEOPLE]      writes FOLDER/Data_Preprocessed_P01.mat to P40.mat
    heartlore prepare --dataset amigos FOLDER --out store

Made with Python 3.11, NumPy 2.4.6, SciPy 1.17.1. Too large to be committed (13 MB for 40 people; the real one has 10 GB): videos are
cut to 25 s and 65 s with their baseline. The ECG is a train of bumps whose rate follows the arousal that the person reports,
so that labels and signals belong together; EEG and skin conductance are zero. Quirks: videos in another order for every person,
three people without long videos, empty cells, a channel of NaN, a trial that was not rated, checksums that are wrong, some files
in folders of their own.
"""
import io
import struct
import sys
from pathlib import Path

import numpy as np
import scipy.io

RATE = 128
SHORT = ["4", "5", "9", "10", "13", "18", "19", "20", "23", "30", "31", "34", "36", "58", "80", "138"]
LONG = ["N1", "P1", "B1", "U1"]


def ecg(seconds, bpm, rng):
    n = RATE * seconds
    t = np.arange(n) / RATE
    out = rng.normal(0, 15, n)
    at = rng.uniform(0, 0.5)
    while at < seconds:
        for shift, width, height in [(-0.18, 0.025, 120), (0, 0.012, 1000), (0.03, 0.01, -200), (0.27, 0.055, 280)]:
            out += height * np.exp(-(((t - at - shift) / width) ** 2) / 2)
        at += 60 / bpm + rng.normal(0, 0.02)
    return out.round()


def person(p, rng):
    order = list(rng.permutation(SHORT)) + list(rng.permutation(LONG))
    data, labels, names = (np.empty((1, 20), object) for _ in range(3))
    rest = rng.uniform(58, 78)
    for i, video in enumerate(order):
        names[0, i] = np.array([video])
        long = i >= 16
        if (long and p in (8, 24, 28)) or (p == 9 and i == 3):
            data[0, i], labels[0, i] = np.zeros((0, 0)), np.zeros((0, 0))
            continue
        arousal, valence = rng.uniform(1, 9, 2).round(2)
        rows = np.zeros((RATE * (65 if long else 25), 17))
        for lead, gain in ((14, 0.8), (15, 1.0)):
            rows[:, lead] = (gain * ecg(len(rows) // RATE, rest + 2.0 * arousal, rng)).round()
        if p == 12 and i == 5:
            rows[:, 15] = np.nan
        data[0, i] = rows
        basic = (rng.uniform(size=7) < 0.2).astype(float)
        labels[0, i] = np.concatenate([[arousal, valence], rng.uniform(1, 9, 3).round(2), basic])[None]
        if p == 21 and i == 0:
            labels[0, i] = np.zeros((0, 0))
    return {"joined_data": data, "labels_selfassessment": labels, "VideoIDs": names}


def main(folder, people=40):
    for p in range(1, people + 1):
        values = person(p, np.random.default_rng(p))
        b = io.BytesIO()
        scipy.io.savemat(b, values, do_compression=True)
        raw = bytearray(b"MATLAB 5.0 MAT-file Platform: posix, made by SciPy".ljust(116) + b.getvalue()[116:])
        if p % 10 == 3:
            # The checksum of the first variable's zlib stream.
            size, = struct.unpack("<I", raw[132:136])
            raw[136 + size - 1] ^= 0x55
        name = f"Data_Preprocessed_P{p:02d}"
        place = folder / name if p % 4 == 0 else folder
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{name}.mat").write_bytes(raw)


main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
