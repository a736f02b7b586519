"""The Python interface against the command line, bit for bit, and what it refuses. Needs HEARTLORE, the program's path."""

import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import heartlore

PROGRAM = os.environ.get("HEARTLORE", "heartlore")
FIXTURE = os.environ.get("HEARTLORE_FIXTURE")


def run(*args, **kwargs):
    return subprocess.run([PROGRAM, *map(str, args)], check=True, capture_output=True, text=True, **kwargs).stdout


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A simulated study, a pre-trained and a fine-tuned model of a few parameters."""
    folder = tmp_path_factory.mktemp("study")
    sizes = "--preset tiny --channels 4,4,8 --hidden 8 --head-hidden 4 --layers 1 --epochs 1 --batch 8".split()
    run("simulate", "--out", "study", "--subjects", 4, "--trials", 2, "--trial-s", 25, "--fs-hz", 160, cwd=folder)
    run("prepare", "--table", "study/items.csv", "--out", "store", "--zero-phase=false", "--window", 640, "--hop", 600, cwd=folder)
    run("pretrain", "--data", "store", "--out", "pre", *sizes, cwd=folder)
    run("finetune", "--data", "store", "--out", "fine", "--label", "aroused", "--init", "pre/model", "--folds", 2,
        "--resamples", 20, *sizes, cwd=folder)
    return folder


@pytest.fixture(scope="session")
def model(place):
    return heartlore.Model.load(place / "fine" / "model", threads=1)


def said(place, file):
    text = run("predict", file, "--model", "fine/model", "--unit", "mV", "--json", cwd=place)
    return json.loads(text)["recordings"][0]["windows"]


def test_predict_recording_gives_the_programs_bits(place, model):
    there = said(place, "study/sim01_01.csv")
    here = model.predict_recording(place / "study" / "sim01_01.csv", unit="mV")
    assert len(there) > 2
    np.testing.assert_array_equal(here["start_s"], [w["start_s"] for w in there])
    np.testing.assert_array_equal(here["end_s"], [w["end_s"] for w in there])
    assert here["quality"] == [w["quality"] for w in there]
    assert here["probability"].dtype == np.float32
    np.testing.assert_array_equal(here["probability"], np.array([w["probability"] for w in there], np.float32))


def test_samples_windows_and_stream_agree(place, model):
    file = place / "study" / "sim01_01.csv"
    recording = heartlore.read(file, unit="mV")
    whole = model.predict_recording(file, unit="mV")
    mine = model.predict_samples(recording["samples"], recording["fs_hz"], mv_per_unit=1.0)
    np.testing.assert_array_equal(mine["probability"], whole["probability"])
    prepared = model.prepare(recording["samples"], recording["fs_hz"], mv_per_unit=1.0)
    assert prepared["windows"].shape == (len(mine["probability"]), model.window)
    np.testing.assert_array_equal(model.predict(prepared["windows"]), whole["probability"])
    stream = heartlore.Stream(model, recording["fs_hz"], mv_per_unit=1.0)
    events = []
    for block in np.array_split(recording["samples"], 41):
        events += stream.push(block)
    events += stream.finish()
    windows = [e for e in events if e["event"] == "window"]
    np.testing.assert_array_equal(np.array([w["probability"] for w in windows], np.float32), whole["probability"])
    assert [w["quality"] for w in windows] == whole["quality"]
    lines = run("stream", "--model", "fine/model", "--replay", file, "--speed", 0, "--unit", "mV", cwd=place).splitlines()
    lines = [json.loads(line) for line in lines]
    assert lines[0]["event"] == "start" and lines[0]["settings"]["speed"] == 0
    assert [e for e in lines[1:-1]] == events
    assert lines[-1]["windows"] == len(windows)
    stream.close()
    with pytest.raises(heartlore.UsageError, match="closed"):
        stream.finish()


def test_beats_quality_and_hrv_are_the_programs(place):
    file = place / "study" / "sim02_01.csv"
    recording = heartlore.read(file, unit="mV")
    beats = heartlore.beats(recording["samples"], recording["fs_hz"])
    there = json.loads(run("beats", file, "--unit", "mV", "--json"))
    assert len(beats) > 10 and beats.dtype == np.int64
    assert there["beats"] == len(beats) if isinstance(there["beats"], int) else len(there["beats"]) == len(beats)
    verdict = heartlore.quality(recording["samples"], recording["fs_hz"], mv_per_unit=1.0)
    assert verdict["usable"] and 0.5 < verdict["index"] <= 1.0 and verdict["reasons"] == []
    figures = heartlore.hrv(beats / recording["fs_hz"])
    assert figures["HRV_RMSSD"] > 0 and 40 < figures["heart_rate_bpm"] < 180
    assert heartlore.hrv(np.zeros(0))["HRV_RMSSD"] is None
    assert not heartlore.quality(np.zeros(2000), 160.0)["usable"]


def test_embed_reconstruct_and_state(place, model):
    pretrained = heartlore.Model.load(place / "pre" / "model")
    x = np.random.default_rng(0).standard_normal((3, model.window)).astype(np.float32)
    assert model.embed(x).shape == (3, model.width)
    mask = np.zeros_like(x, dtype=bool)
    mask[:, 100:120] = True
    filled = pretrained.reconstruct(x, mask)
    assert filled.shape == x.shape and not np.array_equal(filled, pretrained.reconstruct(x))
    hidden = np.where(mask, np.float32(0), x)
    np.testing.assert_array_equal(pretrained.reconstruct(hidden), filled)
    state = model.state_dict()
    twin = model.with_state_dict(state)
    np.testing.assert_array_equal(twin.predict(x), model.predict(x))
    name = next(iter(state))
    with pytest.raises(heartlore.ShapeError, match=name):
        model.with_state_dict({**state, name: state[name][:1]})
    folder = place / "fine" / "model"
    parts = [(folder / n).read_bytes() for n in ("config.json", "model.safetensors", "preprocessor_config.json")]
    np.testing.assert_array_equal(heartlore.Model.from_bytes(*parts).predict(x), model.predict(x))
    with pytest.raises(heartlore.FormatError):
        heartlore.Model.from_bytes(parts[0], parts[1][: len(parts[1]) // 2], parts[2])


def test_bad_arrays_are_refused(model, place):
    x = np.zeros((2, model.window), np.float32)
    with pytest.raises(TypeError, match="float32, not .*float64"):
        model.predict(x.astype(np.float64))
    with pytest.raises(TypeError, match="numpy array"):
        model.predict([[0.0]])
    with pytest.raises(heartlore.ShapeError, match="shape"):
        model.predict(x[:, 1:].copy())
    with pytest.raises(heartlore.ShapeError, match="contiguous"):
        model.predict(np.asfortranarray(x))
    with pytest.raises(heartlore.ShapeError, match="contiguous"):
        model.predict(np.zeros((4, model.window), np.float32)[::2])
    bad = x.copy()
    bad[1, 5] = np.nan
    with pytest.raises(heartlore.DataError, match="window 1.*sample 5"):
        model.predict(bad)
    fixed = x.copy()
    fixed.setflags(write=False)
    np.testing.assert_array_equal(model.predict(fixed), model.predict(x))
    assert model.predict(np.zeros((0, model.window), np.float32)).shape == (0,)
    with pytest.raises(heartlore.UsageError, match="reconstruction"):
        model.reconstruct(x)
    with pytest.raises(heartlore.UsageError, match="classifier"):
        heartlore.Model.load(place / "pre" / "model").predict(x)
    with pytest.raises(OSError, match="no model here"):
        heartlore.Model.load(place)
    with pytest.raises(OSError):
        heartlore.read(place / "missing.csv")
    with pytest.raises(heartlore.UsageError, match="unit"):
        heartlore.read(place / "study" / "sim01_01.csv", unit="furlong")
    for fs in (0.0, -1.0, float("nan"), 20.0):
        with pytest.raises(heartlore.UsageError):
            heartlore.beats(np.zeros(500), fs)
    with pytest.raises(heartlore.ShapeError):
        heartlore.beats(np.zeros((2, 500)), 160.0)


def test_two_threads_share_a_model(model):
    x = np.random.default_rng(1).standard_normal((8, model.window)).astype(np.float32)
    wanted = model.predict(x)
    results = [None, None]

    def work(i):
        results[i] = [model.predict(x) for _ in range(10)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    for result in results:
        for p in result:
            np.testing.assert_array_equal(p, wanted)


def test_the_classifier_fits_by_groups(place, model):
    pytest.importorskip("sklearn")
    from sklearn.base import clone
    from sklearn.exceptions import NotFittedError

    rng = np.random.default_rng(2)
    y = np.array(["calm", "aroused"] * 20)
    # Two kinds of windows that differ in frequency.
    t = np.arange(model.window) / 128
    f = np.where(y == "calm", 1.0, 4.0)
    x = (np.sin(2 * np.pi * f[:, None] * t) + 0.1 * rng.standard_normal((40, model.window))).astype(np.float32)
    groups = np.arange(40) // 8
    classifier = heartlore.HeartloreClassifier(model)
    with pytest.raises(NotFittedError):
        clone(classifier).predict(x)
    classifier.fit(x, y, groups=groups)
    p = classifier.predict_proba(x)
    assert p.shape == (40, 2) and np.allclose(p.sum(axis=1), 1) and list(classifier.classes_) == ["aroused", "calm"]
    assert classifier.score(x, y) > 0.9
    assert clone(classifier).get_params()["C"] == 1.0
    with pytest.raises(ValueError):
        classifier.fit(x[:, :-1], y)


def test_importing_is_quick_and_brings_no_scikit_learn():
    code = "import numpy, sys, time; t = time.perf_counter(); import heartlore; print(time.perf_counter() - t, 'sklearn' in sys.modules)"
    seconds, sklearn = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert sklearn == "False"
    print(f"import: {float(seconds) * 1000:.1f} ms beyond numpy")
