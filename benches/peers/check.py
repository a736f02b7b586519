"""Do the programs of compare.py compute the same model? Their outputs from the same weights and windows, side by side.

    benches/peers/run --check                    random weights, written as model directories of heartlore
    benches/peers/run --check --model DIR        a model directory of the `paper` preset's sizes

The reference is model.py in f64. f32 programs may differ by 1e-5 of the largest output (at least 1); bf16 and int8 ones are listed
for information. From random weights, the losses of three training steps of candle and burn are held to PyTorch's too, with
dropout off: a step that leaves a parameter out is faster. That heartlore's own gradients and steps are PyTorch's is held by
tests/nn_parity.rs and tests/oracle.rs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np  # noqa: E402  (after the environment)
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

from model import WINDOW, Model, heartlore_name, to_int8, to_onnx  # noqa: E402

TARGET = os.environ.get("CARGO_TARGET_DIR", "target")
HEARTLORE = os.path.join(TARGET, "release", "heartlore")
RUST = os.path.join(TARGET, "peers-rust", "release", "heartlore-peers")
LIMIT = 1e-5
HEADS = {"pretrained": "reconstruct", "classifier": "classify"}
TASKS = {
    "reconstruct": {"kind": "pretrained"},
    "classify": {"kind": "classifier", "positive": "high", "negative": "low", "threshold": 0.5},
}
# The `paper` preset, as far as model.py fixes it.
SIZES = {
    "window": WINDOW, "channels": [64, 128, 256], "kernels": [65, 33, 17], "strides": [1, 1, 1],
    "encoder_norm": "first", "layers": 2, "heads": 2, "hidden": 1024, "activation": "relu", "norm_order": "post",
    "positions": "sinusoidal", "embed_norm": True, "cls": True, "pooling": "cls", "norm_eps": 1e-5,
    "head_hidden": [1024, 512],
}
REST = {
    "dropout": 0.1, "attention_dropout": 0.1, "head_dropout": 0.3, "mask": {"probability": 0.0325, "span": 20},
}


def save(model, head, directory):
    """A model directory of heartlore: config.json, and model.safetensors written by hand."""
    tensors = {heartlore_name(n, head): p.detach().numpy() for n, p in model.named_parameters()}
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, values in sorted(tensors.items()):
        raw = values.astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": values.shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    os.makedirs(directory)
    with open(os.path.join(directory, "model.safetensors"), "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + data)
    config = {
        "model_type": "heartlore", "format_version": 1, "heartlore_version": "0.1.0", "task": TASKS[head],
        "model": SIZES | REST,
        "card": {"training_data": [], "simulated": False, "metrics": [], "notes": [], "licence": None},
    }
    with open(os.path.join(directory, "config.json"), "w") as file:
        json.dump(config, file, indent=1)


def load(directory):
    """The model in a directory of heartlore, and its head."""
    with open(os.path.join(directory, "config.json")) as file:
        config = json.load(file)
    other = {k: v for k, v in SIZES.items() if config["model"][k] != v}
    if other:
        raise SystemExit(f"{directory} is not of the paper preset's sizes: {', '.join(other)} differ")
    head = HEADS[config["task"]["kind"]]
    with open(os.path.join(directory, "model.safetensors"), "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.read()
    model, state = Model(head), {}
    for name, parameter in model.named_parameters():
        entry = header[heartlore_name(name, head)]
        if entry["dtype"] != "F32" or entry["shape"] != list(parameter.shape):
            raise SystemExit(f"{name}: {entry} in {directory}, F32 {list(parameter.shape)} here")
        a, b = entry["data_offsets"]
        state[name] = torch.from_numpy(np.frombuffer(data[a:b], "<f4").reshape(parameter.shape).copy())
    positions = {"positions": model.positions}
    model.load_state_dict(state | positions, strict=True)
    return model.eval(), head


def random_model(head):
    """No parameter at a value that would hide it: gains near 1, biases and CLS near 0 but not there, matrices large enough
    (PyTorch starts them at a third of the variance) that every layer counts in the output."""
    torch.manual_seed(7)
    model = Model(head)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += 0.1 * torch.randn(parameter.shape)
            else:
                parameter *= 3**0.5
    return model


def rewritten(model, head, pruned):
    copy = Model(head, dropout=0.0, attention_dropout=0.0, pruned=pruned).eval()
    copy.load_state_dict(model.state_dict())
    return copy


def call(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-400:])


def torch_output(model, x, bf16=False):
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        return model(x).float().numpy()


def onnx_outputs(model, x, path):
    """What ONNX Runtime and OpenVINO (f32, bf16) make of a model."""
    import onnxruntime
    import openvino

    to_onnx(model, len(x), path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    yield "onnxruntime", session.run(None, {"x": x})[0]
    for precision in ("f32", "bf16"):
        settings = {"INFERENCE_PRECISION_HINT": precision}
        compiled = openvino.Core().compile_model(path, "CPU", settings)
        yield "openvino" + (" bf16" if precision == "bf16" else ""), compiled(x)[0]
    to_int8(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    yield "onnxruntime int8", session.run(None, {"x": x})[0]


def outputs(model, head, directory, x, scratch):
    """(program, outputs or a failure) of every program."""
    y, job = os.path.join(scratch, "y.npy"), "reconstruct" if head == "reconstruct" else "predict"
    x_npy = os.path.join(scratch, "x.npy")
    np.save(x_npy, x)

    def program(name, command):
        try:
            call(command)
            return name, np.load(y)
        except (RuntimeError, OSError) as e:
            return name, e

    forward = [HEARTLORE, "forward", "--model", directory, "--input", x_npy, "--output", y]
    yield program("heartlore", forward)
    yield program("heartlore bf16", forward + ["--precision", "bf16"])
    yield program("heartlore int8", forward + ["--precision", "int8"])
    for pruned in (False, True) if head == "classify" else (False,):
        suffix, m = " pruned" if pruned else "", rewritten(model, head, pruned)
        inputs = torch.from_numpy(x)
        yield "torch" + suffix, torch_output(m, inputs)
        yield "torch-compile" + suffix, torch_output(torch.compile(m), inputs)
        yield "torch bf16" + suffix, torch_output(m, inputs, bf16=True)
        for name, found in onnx_outputs(m, x, os.path.join(scratch, f"model{suffix.strip()}.onnx")):
            yield name + suffix, found
        for peer in ("candle", "burn") if os.path.exists(RUST) else ():
            weights = os.path.join(directory, "model.safetensors")
            flags = ["--weights", weights, "--input", x_npy, "--output", y] + (["--pruned"] if pruned else [])
            yield program(peer + suffix, [RUST, "--peer", peer, "--job", job] + flags)


def torch_losses(model, head, x):
    """The losses of three training steps, as the Rust peers take them with --output."""
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    adam = torch.optim.Adam(model.parameters(), lr=1e-4)
    x = torch.from_numpy(x)
    mask = ((torch.arange(WINDOW) // 20) % 2).float().expand_as(x)
    labels = torch.arange(len(x)).float() % 2
    losses = []
    for _ in range(3):
        if head == "reconstruct":
            loss = (mask * (model(x * (1 - mask)) - x) ** 2).sum() / mask.sum()
        else:
            loss = F.binary_cross_entropy_with_logits(model(x), labels)
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    return np.array(losses)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model directory of heartlore")
    args = parser.parse_args()
    failed = 0

    def line(what, name, found, wanted, informative=False):
        nonlocal failed
        if isinstance(found, Exception):
            print(f"{what:<22}{name:<24}failed: {str(found).strip()}")
            failed += 1
            return
        worst = float(np.abs(found.reshape(wanted.shape) - wanted).max())
        scale = max(1.0, float(np.abs(wanted).max()))
        good = bool(worst <= LIMIT * scale)
        failed += not good and not informative
        verdict = "" if informative else "same" if good else "DIFFERENT"
        print(f"{what:<22}{name:<24}{worst:>10.1e}{scale:>9.2f}  {verdict}", flush=True)

    print(f"{'what':<22}{'program':<24}{'largest |difference|':>10}, largest |output| or 1")
    with tempfile.TemporaryDirectory() as scratch:
        directories = [args.model] if args.model else []
        for head in () if args.model else TASKS:
            directories.append(os.path.join(scratch, head))
            save(random_model(head), head, directories[-1])
        x = np.random.default_rng(3).standard_normal((2, WINDOW)).astype(np.float32)
        for directory in directories:
            model, head = load(directory)
            what = "reconstruction" if head == "reconstruct" else "logits"
            with torch.inference_mode():
                wanted = rewritten(model, head, False).double()(torch.from_numpy(x).double()).numpy()
            for name, found in outputs(model, head, directory, x, scratch):
                line(what, name, found, wanted, informative="bf16" in name or "int8" in name)
            if args.model or not os.path.exists(RUST):
                continue
            job = "pretrain" if head == "reconstruct" else "finetune"
            for pruned in (False, True) if head == "classify" else (False,):
                wanted, y = torch_losses(rewritten(model, head, pruned), head, x), os.path.join(scratch, "y.npy")
                for peer in ("candle", "burn"):
                    command = [RUST, "--peer", peer, "--job", job, "--input", os.path.join(scratch, "x.npy")]
                    command += ["--weights", os.path.join(directory, "model.safetensors"), "--output", y]
                    try:
                        call(command + (["--pruned"] if pruned else []))
                        found = np.load(y)
                    except (RuntimeError, OSError) as e:
                        found = e
                    line(f"{job}, 3 losses", peer + (" pruned" if pruned else ""), found, wanted)
    print("all the same" if failed == 0 else f"{failed} differ or failed")
    sys.exit(failed > 0)


main()
