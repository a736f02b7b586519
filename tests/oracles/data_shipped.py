"""Makes the WFDB records under examples/data from the packages named in examples/data/README.md.

usage: python data_shipped.py SITE OUT
SITE holds the unpacked wheels scipy-1.11.4 and biosignalsnotebooks-0.6.14. Needs numpy and h5py.
The samples are written unchanged (the 16-bit codes minus 32768, which WFDB's signed format 16 asks for); only the header
is added. Made with Python 3.11, numpy 2 and h5py 3.
"""
import os
import sys

import h5py
import numpy as np

site, out = sys.argv[1:3]
os.makedirs(out, exist_ok=True)


def write(name, digital, fs, gain, baseline, label, comments):
    assert digital.min() > -32768 and digital.max() < 32768, "the most negative value means missing"
    digital.astype("<i2").tofile(os.path.join(out, name + ".dat"))
    # The sum of the samples as a signed 16-bit number.
    checksum = int(np.array(int(digital.astype(np.int64).sum()) & 0xFFFF, dtype=np.uint16).view(np.int16))
    with open(os.path.join(out, name + ".hea"), "w", newline="\n") as f:
        f.write(f"{name} 1 {fs} {len(digital)}\n")
        f.write(f"{name}.dat 16 {gain}({baseline})/mV 16 0 {digital[0]} {checksum} 0 {label}\n")
        for line in comments:
            f.write(f"# {line}\n")


with np.load(os.path.join(site, "scipy/misc/ecg.dat")) as f:
    ecg = f["ecg"].astype(np.int64)
write("mitbih208", ecg, 360, 200, 1024, "MLII",
      ["MIT-BIH Arrhythmia Database, record 208, from 19:34.5 for 5 min, lead MLII (SciPy 1.11.4, scipy/misc/ecg.dat)"])

samples = os.path.join(site, "biosignalsnotebooks/notebook_files/osf_files/signal_samples")
# ECG in mV = (code / 2^16 - 1/2) * 3 / 1.019: PLUX's transfer function (biosignalsnotebooks/conversion.py), so one mV is
# 65536 * 1.019 / 3 codes.
for name, file in [("plux_5min", "ecg_5_min"), ("plux_7min", "signal_sample_single_hub_ECG_2018_7_5"),
                   ("plux_supine", "supine_1min")]:
    with h5py.File(os.path.join(samples, file + ".h5")) as h:
        group = h[list(h)[0]]
        raw = group["raw/channel_1"][:, 0].astype(np.int64) - 32768
        fs = int(group.attrs["sampling rate"])
    write(name, raw, fs, "22260.395", 0, "ECG", [f"biosignalsnotebooks 0.6.14, {file}.h5 (PLUX Wireless Biosignals, MIT)"])
