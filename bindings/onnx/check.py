"""Runs exported models in ONNX Runtime beside the program and prints the largest differences.

    python check.py PROGRAM MODEL_DIR...

A classifier is exported for predict and embed, a pre-trained model for embed and reconstruct. Fails beyond 1e-5 (of the
largest value, where that is above 1).
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

try:
    import heartlore
except ImportError:
    heartlore = None


def run(*args):
    return subprocess.run([str(a) for a in args], check=True, capture_output=True, text=True).stdout


def main(program, *models):
    worst = 0.0
    for model in map(Path, models):
        window = json.loads((model / "preprocessor_config.json").read_text())["window"]
        rng = np.random.default_rng(0)
        x = rng.standard_normal((5, window)).astype(np.float32)
        for what in ("predict", "embed", "reconstruct"):
            with tempfile.TemporaryDirectory() as folder:
                folder = Path(folder)
                np.save(folder / "x.npy", x)
                file = folder / "m.onnx"
                made = subprocess.run([program, "export", "--model", model, "--onnx", file, "--what", what], capture_output=True, text=True)
                if made.returncode != 0:
                    print(f"{model.parent.name}: {what}: {made.stderr.strip().splitlines()[0]}")
                    continue
                onnx.checker.check_model(onnx.load(file), full_check=True)
                session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
                theirs = session.run(None, {"samples": x})[0]
                # A batch of another size gives the same rows.
                one = session.run(None, {"samples": x[3:4]})[0]
                np.testing.assert_allclose(one[0], theirs[3], atol=1e-5)
                if what == "embed":
                    if heartlore is None:
                        print(f"{model.parent.name}: embed: not compared, the Python module is not installed")
                        continue
                    ours = heartlore.Model.load(model).embed(x)
                else:
                    flags = ["--probabilities"] if what == "predict" else []
                    run(program, "forward", "--model", model, "--input", folder / "x.npy", "--output", folder / "y.npy", *flags)
                    ours = np.load(folder / "y.npy").reshape(theirs.shape)
                scale = max(1.0, float(np.abs(ours).max()))
                far = float(np.abs(ours - theirs).max())
                worst = max(worst, far / scale)
                print(f"{model.parent.name}: {what}: largest difference {far:.2e} (values up to {scale:.2f})")
    print(f"onnxruntime {ort.__version__}, onnx {onnx.__version__}: largest difference {worst:.2e}")
    return 0 if worst <= 1e-5 else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
