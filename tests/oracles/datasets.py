"""Tiny folders in the layouts of the data sets that cannot be shipped, with their quirks.

    python tests/oracles/datasets.py      writes tests/oracles/datasets/

Made with Python 3.11, NumPy 2.4.6, SciPy 1.17.1. Signals are sawtooths whose values tests/datasets.rs knows: sample i of
recording r of person p in channel c is `1000 p + 100 r + 10 c + i % 7` (mod 16 bits where stored as such).
"""
import io
import shutil
import struct
from pathlib import Path

import numpy as np
import scipy.io

OUT = Path(__file__).parent / "datasets"


def saw(n, person, recording, channel):
    return 1000.0 * person + 100.0 * recording + 10.0 * channel + np.arange(n) % 7


def save(path, values, damage=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    b = io.BytesIO()
    scipy.io.savemat(b, values, do_compression=True, oned_as="row")
    data = bytearray(b"MATLAB 5.0 MAT-file Platform: posix, made by SciPy".ljust(116) + b.getvalue()[116:])
    if damage:
        # The checksum of the first variable's zlib stream.
        size, = struct.unpack("<I", data[132:136])
        data[136 + size - 1] ^= 0x55
    path.write_bytes(data)


def cells(rows, columns, values):
    out = np.empty((rows, columns), dtype=object)
    for i, v in enumerate(values):
        out[i % rows, i // rows] = v
    return out


def amigos():
    root = OUT / "amigos"
    videos = {1: ["4", "18", "N1", "P1"], 2: ["18", "4", "P1", "N1"]}
    for person in (1, 2):
        data, answers = [], []
        for r in range(4):
            n = 128 * 7 + r
            m = np.zeros((n, 17))
            for c in (14, 15):
                m[:, c] = saw(n, person, r, c)
            row = np.array([[5.0 + r / 2, 3.0 + person, 4, 6, 2, 0, 1, 0, 0, 0, 0, 1]])
            if r == 2:
                m, row = np.zeros((0, 0)), np.zeros((0, 0))
            if r == 3:
                m[:, 15] = np.nan
            if r == 3 and person == 2:
                row = np.full((1, 12), np.nan)
            data.append(m)
            answers.append(row)
        ids = [np.array([v]) for v in videos[person]] if person == 1 else [cells(1, 1, [v]) for v in videos[person]]
        name = f"Data_Preprocessed_P{person:02}.mat"
        path = root / name if person == 1 else root / name[:-4] / name
        save(path, {"joined_data": cells(1, 4, data), "labels_selfassessment": cells(1, 4, answers),
                    "VideoIDs": cells(1, 4, ids), "labels_ext_annotation": cells(1, 4, [np.zeros((2, 3))] * 4)},
             damage=person == 2)


def dreamer():
    people = []
    for person in (1, 2, 3):
        clips = []
        for r in range(2):
            n = 300 + r
            clips.append(np.stack([saw(n, person, r, c) for c in (0, 1)], axis=1))
        if person == 2:
            clips[1] = np.zeros((0, 0))
        base = cells(2, 1, [np.zeros((20, 2))] * 2)
        people.append({"Age": "2" + str(person), "Gender": "male", "EEG": {"baseline": base, "stimuli": base},
                       "ECG": {"baseline": base, "stimuli": cells(2, 1, clips)},
                       "ScoreValence": np.array([[person], [5.0]]), "ScoreArousal": np.array([[2.0], [3.0]]),
                       "ScoreDominance": np.array([[1.0], [4.0]])})
    save(OUT / "dreamer" / "DREAMER.mat", {"DREAMER": {"Data": cells(1, 3, people), "EEG_SamplingRate": 128.0,
                                                       "ECG_SamplingRate": 256.0, "noOfSubjects": 3.0}})


def ascertain():
    root = OUT / "ascertain"
    for person, k in ((1, 4), (9, 7)):
        for clip in (1, 2):
            n = 400 + clip
            m = np.stack([saw(n, person, clip, c) for c in range(k)], axis=1)
            # Person 9's stamps run at half the rate.
            m[:, 0] = np.arange(n) * 1000.0 / (256.0 if person == 1 else 128.0)
            save(root / "ASCERTAIN_Raw/ECGData" / f"Movie_P{person:02}" / f"ECG_Clip{clip}.mat",
                 {"Data_ECG": m, "timeECG": np.array([[2014.0, 5, 1, 12, 0, 0]])})
    ratings = np.zeros((5, 58, 36))
    ratings[0], ratings[1] = np.arange(58)[:, None] % 7, np.arange(36)[None, :] % 7 - 3
    ratings[:, 8, 1] = np.nan
    save(root / "ASCERTAIN_Features/Dt_SelfReports.mat", {"Ratings": ratings})


def pspm():
    root = OUT / "pspm" / "Data"

    def channel(kind, data, sr=500.0, units="mV"):
        return {"header": {"chantype": kind, "sr": sr, "units": units}, "data": data}

    n = 1500
    scr = channel("scr", np.zeros((n, 1)), units="uS")
    marker = channel("marker", np.array([[0.5], [1.5]]), sr=1.0, units="events")
    save(root / "PsPM-FR_spike_01.mat", {"infos": {"duration": 3.0},
                                         "data": cells(3, 1, [scr, channel("ecg", saw(n, 1, 0, 0)[:, None]), marker])})
    save(root / "PsPM-FR_spike_02.mat", {"infos": {"duration": 9.0},
                                         "data": cells(2, 1, [channel("ecg", saw(n, 2, 0, 0)[None, :], units="unknown"),
                                                              scr])})
    save(root / "PsPM-FR_spike_03.mat", {"infos": {"duration": 3.0}, "data": cells(2, 1, [scr, marker])})
    save(root / "PsPM-FR_cogent_01.mat", {"data": np.zeros((2, 2))})


def case():
    root = OUT / "case" / "data" / "interpolated"
    for folder in ("physiological", "annotations"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    rows = ["daqtime,ecg,bvp,gsr,rsp,skt,emg_zygo,emg_coru,emg_trap,video"]
    notes = ["jstime,valence,arousal,video"]
    t = 0
    for v in (10, 3, 11, 7):
        for i in range(100):
            rows.append(f"{t},{saw(100, 1, v, 0)[i] / 1000:.3f},1,2,3,4,5,6,7,{v}")
            if i % 50 == 0:
                notes.append(f"{t},{5 + i / 50},{v / 2},{v}")
            t += 1
    (root / "physiological" / "sub_1.csv").write_text("\n".join(rows) + "\n")
    (root / "annotations" / "sub_1.csv").write_text("\n".join(notes) + "\n")
    (root / "physiological" / "sub_2.csv").write_text("\n".join(rows[:50]) + "\n")


def yaad():
    root = OUT / "yaad" / "ECG_GSR_Emotions"
    for kind in ("Multimodal", "Single Modal"):
        folder = root / "Raw Data" / kind / "ECG"
        folder.mkdir(parents=True, exist_ok=True)
        for video in (1, 2):
            text = ",".join(f"{x:.1f}" for x in saw(200, 1, video, 0))
            (folder / f"ECGdata_s1p1v{video}.dat").write_text(text + "\n")
    labels = root / "Self-Annotation Labels"
    labels.mkdir(parents=True, exist_ok=True)
    (labels / "Self-annotation Multimodal_Use.csv").write_text(
        "Participant Id,Session Id,Video Id,Valence level,Arousal level,Dominance level,Emotion\n"
        "1,1,1,4,2,3,Happy\n1,1,2,1,5,2,Fear\n")
    (labels / "Self-annotation Single Modal_Use.xlsx").write_bytes(b"PK\x03\x04")


def wesad():
    root = OUT / "wesad"
    root.mkdir(parents=True, exist_ok=True)
    label = np.repeat([0, 1, 0, 2, 6, 1, 3], 100).astype("int32")
    for name, write in (("S2", np.savez_compressed), ("S3", np.savez)):
        write(root / f"{name}.npz", ecg=saw(700, int(name[1]), 0, 0), label=label, fs_hz=np.array([700.0]))


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    for make in (amigos, dreamer, ascertain, pspm, case, yaad, wesad):
        make()


if __name__ == "__main__":
    main()
