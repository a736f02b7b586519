"""Makes the small EDF and BDF files under tests/oracles/data/edf with the values pyedflib reads, and the checksums of what
pyedflib and wfdb-python read from the real recordings, tests/oracles/data/real.csv.

usage: python data_edf.py [RAW]   (RAW: a directory with eegmat, mitdb, ecgid, cinc2017 as downloaded from PhysioNet)
Made with Python 3.11, numpy 2.4.6, pyedflib 0.1.42, wfdb 4.3.1.

A discontinuous file cannot be made or read by pyedflib: a continuous one is written, then its records are given later times
by editing the bytes; the expected values are those of the continuous file with NaN between.
"""
import glob
import hashlib
import os
import re
import sys

import numpy as np
import pyedflib
import wfdb

raw = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else None
root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
out = os.path.join(root, "edf")
os.makedirs(out, exist_ok=True)
os.chdir(out)
rng = np.random.default_rng(5)


def write(name, kind, bits, seconds, annotations):
    lo, hi = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    w = pyedflib.EdfWriter(name, 2, file_type=kind)
    head = lambda label, dim, f, a, b: dict(label=label, dimension=dim, sample_frequency=f, physical_min=a, physical_max=b,
                                            digital_min=lo, digital_max=hi, transducer="", prefilter="")
    w.setSignalHeaders([head("ECG", "mV", 20, -3.1, 3.3), head("Resp", "uV", 8, 250.0, -187.5)])
    w.setPatientCode("B12")
    x = [rng.integers(lo, hi + 1, seconds * f).astype(np.int32) for f in (20, 8)]
    x[0][:2] = lo, hi
    w.writeSamples(x, digital=True)
    for a in annotations:
        w.writeAnnotation(*a)
    w.close()
    with pyedflib.EdfReader(name) as r:
        for i in range(2):
            np.save(f"{name[:-4]}_{i}_expected.npy", r.readSignal(i))


write("plain.bdf", pyedflib.FILETYPE_BDF, 24, 4, [])
os.rename("plain.bdf", "plain24.bdf")
for i in range(2):
    os.rename(f"plain_{i}_expected.npy", f"plain24_{i}_expected.npy")
write("plain.edf", pyedflib.FILETYPE_EDF, 16, 4, [])
write("plus24.bdf", pyedflib.FILETYPE_BDFPLUS, 24, 6, [(0.5, 1.5, "begin"), (3.25, -1, "späte Reaktion")])

# Records at 0.25, 1.25, 4.25, 5.25, 8.75 and 9.75 s: the first sample is a quarter of a second after the header's time.
write("gaps.edf", pyedflib.FILETYPE_EDFPLUS, 16, 6, [])
data = bytearray(open("gaps.edf", "rb").read())
data[192:197] = b"EDF+D"
times = [b"0.25", b"1.25", b"4.25", b"5.25", b"8.75", b"9.75"]
for k, t in enumerate(times):
    place = data.index(b"+%d\x14\x14\x00" % k, 256 * 4)
    text = b"+" + t + b"\x14\x14\x00" + (b"+4.5\x14event\x14\x00" if k == 2 else b"")
    data[place:place + len(text)] = text
open("gaps.edf", "wb").write(data)
for i, f in ((0, 20), (1, 8)):
    x = np.load(f"gaps_{i}_expected.npy").reshape(6, f)
    y = np.full(round(10.5 * f), np.nan)
    for k, t in enumerate(times):
        s = round((float(t) - 0.25) * f)
        y[s:s + f] = x[k]
    np.save(f"gaps_{i}_expected.npy", y)

# ---- OpenSignals: the layout of its text files, made by hand after https://www.pluxbiosignals.com (OpenSignals file format)
with open(os.path.join(root, "opensignals.txt"), "w", newline="\n") as f:
    f.write('# OpenSignals Text File Format. Version 1\n'
            '# {"00:07:80:3B:46:58": {"position": 0, "device": "biosignalsplux", "device name": "00:07:80:3B:46:58", '
            '"device connection": "BTH00:07:80:3B:46:58", "sampling rate": 1000, "resolution": [16, 16], '
            '"firmware version": 773, "comments": "", "keywords": "", "mode": 0, "sync interval": 2, "date": "2017-2-17", '
            '"time": "15:23:18.724", "channels": [1, 2], "sensor": ["EDA", "ECG"], "label": ["CH1", "CH2"], '
            '"column": ["nSeq", "DI", "CH1", "CH2"], "special": [{}, {}], "digital IO": [0, 1]}}\n'
            '# EndOfHeader\n')
    for i in range(40):
        f.write(f"{i % 16}\t0\t{1000 + i}\t{32768 + 7 * i}\t\n")

# ---- real recordings: SHA-256 of the float64 values of all channels, one after the other
if raw:
    lines = []
    digest = lambda columns: hashlib.sha256(b"".join(np.ascontiguousarray(c, "<f8").tobytes() for c in columns)).hexdigest()
    for path in sorted(glob.glob(raw + "/eegmat/*.edf")):
        with pyedflib.EdfReader(path) as r:
            labels = r.getSignalLabels()
            lines.append((os.path.relpath(path, raw), digest(r.readSignal(i) for i in range(len(labels)))))
    for path in sorted(glob.glob(raw + "/mitdb/*.hea") + glob.glob(raw + "/ecgid/*/*.hea")):
        lines.append((os.path.relpath(path, raw), digest(wfdb.rdrecord(path[:-4]).p_signal.T)))
    # wfdb-python refuses CinC 2017's date before time: a copy of the header without them.
    for path in sorted(glob.glob(raw + "/cinc2017/*.hea")):
        import shutil, tempfile
        with tempfile.TemporaryDirectory() as d:
            name = os.path.basename(path)
            shutil.copy(path[:-4] + ".mat", d)
            text = re.sub(r"^(\S+ \d+ \d+ \d+) .*$", r"\1", open(path).read(), count=1, flags=re.M)
            open(os.path.join(d, name), "w").write(text)
            lines.append((os.path.relpath(path, raw), digest(wfdb.rdrecord(os.path.join(d, name[:-4])).p_signal.T)))
    with open(os.path.join(root, "real.csv"), "w", newline="\n") as f:
        f.writelines(f"{a},{b}\n" for a, b in lines)
