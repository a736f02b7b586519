"""Makes the small files under tests/oracles/data: arrays, EDF and WFDB records written by other programs, with the
values those programs read back, and windows prepared by SciPy.

usage: python data_fixtures.py   (in any directory)
Made with Python 3.11, numpy 2.4.6, scipy 1.17.1, pyedflib 0.1.42, wfdb 4.3.1.
"""
import os

import numpy as np
import pyedflib
import scipy.signal as ss
import wfdb

out = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
os.makedirs(out, exist_ok=True)
os.chdir(out)
rng = np.random.default_rng(7)

# ---- npy: every type and byte order, both dimensions, versions 1 to 3
values = np.array([[1, -2, 3], [40, 50, -32768]])
for descr in ["<f4", ">f4", "<f8", ">f8", "<i2", ">i2", "<i4", ">i4"]:
    np.save("a_%s%s.npy" % ("le" if descr[0] == "<" else "be", descr[1:]), values.astype(descr))
np.save("one_d.npy", np.array([0.5, np.nan, -1e300]))
for major in (2, 3):
    with open(f"version{major}.npy", "wb") as f:
        np.lib.format.write_array(f, values.astype("<f4"), version=(major, 0))
np.save("object.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
np.save("fortran.npy", np.asfortranarray(values.astype("<f4")))
np.save("three_d.npy", np.zeros((2, 2, 2), "<f4"))
np.save("uint8.npy", np.zeros(4, "u1"))

# ---- an ECG-like test signal: bumps at a beat a second on a slow wave
def beat(t):
    return sum(1.2 * np.exp(-((t - k) / 0.02) ** 2) for k in np.arange(0.4, t[-1], 0.83)) + 0.1 * np.sin(0.7 * t)

# ---- EDF+ with two rates, an inverted physical range and annotations
fs = [100, 25]
t = np.arange(6 * fs[0]) / fs[0]
ecg, resp = beat(t), np.cos(np.arange(6 * fs[1]) / fs[1])
w = pyedflib.EdfWriter("plus.edf", 2, file_type=pyedflib.FILETYPE_EDFPLUS)
head = lambda label, dim, f, lo, hi: dict(label=label, dimension=dim, sample_frequency=f, physical_min=lo, physical_max=hi,
                                          digital_min=-2048, digital_max=2047, transducer="", prefilter="")
w.setSignalHeaders([head("Resp", "uV", fs[1], 2.0, -2.0), head("ECG II", "mV", fs[0], -1.5, 2.5)])
w.setPatientCode("P07")
w.writeSamples([resp, ecg])
w.writeAnnotation(1.25, -1, "film starts")
w.writeAnnotation(3.5, 2.0, "grün")
w.close()
with pyedflib.EdfReader("plus.edf") as r:
    np.save("plus_resp.npy", r.readSignal(0))
    np.save("plus_ecg.npy", r.readSignal(1))

# ---- WFDB: format 212 with three signals (packs across frames) and format 16 with a missing sample, and annotations
d212 = rng.integers(-2047, 2048, (301, 3))
d212[5, 1] = -2048
wfdb.wrsamp("rec212", fs=250, units=["mV", "uV", "V"], sig_name=["I", "ECG II", "V1"], d_signal=d212, fmt=["212"] * 3,
            adc_gain=[200.0, 0.5, 1000.0], baseline=[0, 12, -3])
d16 = rng.integers(-32767, 32768, (50, 2))
d16[0, 0] = -32768
wfdb.wrsamp("rec16", fs=128, units=["mV", "mV"], sig_name=["ECG I", "ECG I filtered"], d_signal=d16, fmt=["16", "16"],
            adc_gain=[200.0, 200.0], baseline=[0, 0])
wfdb.wrann("rec16", "atr", np.array([3, 20, 45]), symbol=["N", "V", "+"], aux_note=["", "", "(AFIB"])
far = np.array([10, 5_000_000])
wfdb.wrann("far", "atr", far, symbol=["N", "A"])
for name in ("rec212", "rec16"):
    np.save(name + "_expected.npy", wfdb.rdrecord(name).p_signal)

# ---- prepared windows by SciPy: order 4 Butterworth 0.8-40 Hz, zero-phase, 250 -> 128 Hz, z-score per window of 256
fs_in = 250
n = 12 * fs_in
x = beat(np.arange(n) / fs_in) + 0.02 * rng.standard_normal(n)
digital = np.round(x * 1000).astype("<i4")
with open("to_prepare.csv", "w", newline="\n") as f:
    f.write("time_s,ecg_uV\n")
    for i, v in enumerate(digital):
        f.write(f"{i / fs_in:.3f},{v}\n")
y = ss.sosfiltfilt(ss.butter(4, [0.8, 40], "bandpass", fs=fs_in, output="sos"), digital / 1000)
y = ss.resample_poly(y, 64, 125)
rows = [y[s:s + 256] for s in range(0, len(y) - 255, 128)]
np.save("prepared.npy", np.array([(r - r.mean()) / r.std() for r in rows]))
