"""Times one Python peer at one job and prints seconds per window as JSON. Called by compare.py."""

import argparse
import glob
import json
import os
import statistics
import time

parser = argparse.ArgumentParser()
parser.add_argument("--peer", required=True, choices=["torch", "torch-compile", "onnxruntime", "openvino"])
parser.add_argument("--job", required=True, choices=["pretrain", "finetune", "predict", "reconstruct"])
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--batch", type=int, default=1)
parser.add_argument("--attention-dropout", type=float, default=0.1)
parser.add_argument("--pruned", action="store_true", help="the last layer computes the row that is read, no other")
parser.add_argument("--precision", choices=["f32", "bf16", "int8"], default="f32", help="int8: ONNX Runtime only")
parser.add_argument("--seconds", type=float, default=6)
parser.add_argument("--onnx", default="target/peers-onnx")
parser.add_argument("--export", action="store_true", help="only write the ONNX file of this job, if it is missing or old")
args = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(args.threads)
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np  # noqa: E402  (after the environment)

WINDOW = 1280
x = np.random.default_rng(1).standard_normal((args.batch, WINDOW)).astype(np.float32)


def waited():
    """Nanoseconds this process's threads have waited for a CPU."""
    total = 0
    for path in glob.glob("/proc/self/task/*/schedstat"):
        try:
            total += int(open(path).read().split()[1])
        except OSError:
            pass
    return total


def torch_call():
    import torch
    import torch.nn.functional as F
    from model import Model

    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    head = "reconstruct" if args.job in ("pretrain", "reconstruct") else "classify"
    model = Model(head, attention_dropout=args.attention_dropout, pruned=args.pruned)
    inputs = torch.from_numpy(x)
    cast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.precision == "bf16")
    if args.job in ("predict", "reconstruct"):
        model.eval()
        run = torch.compile(model) if args.peer == "torch-compile" else model

        def call():
            with torch.inference_mode(), cast:
                run(inputs)

        return call
    model.train()
    run = torch.compile(model) if args.peer == "torch-compile" else model
    adam = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    # Spans of 20 from starts of probability 0.0325: 47 % of the points.
    starts = torch.rand(args.batch, WINDOW) < 0.0325
    mask = F.max_pool1d(F.pad(starts.float(), (19, 0)), 20, 1)
    labels = torch.arange(args.batch).float() % 2

    def call():
        with cast:
            y = run(inputs * (1 - mask) if args.job == "pretrain" else inputs)
        y = y.float()
        if args.job == "pretrain":
            loss = (mask * (y - inputs) ** 2).sum() / mask.sum()
        else:
            loss = F.binary_cross_entropy_with_logits(y, labels)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()

    return call


def onnx_file():
    name = ("reconstruct" if args.job == "reconstruct" else "classify") + ("-pruned" if args.pruned else "")
    return os.path.join(args.onnx, f"{name}-{args.batch}" + ("-int8" if args.precision == "int8" else "") + ".onnx")


def export():
    """A process of its own does this, so that the timed one need not hold PyTorch and its memory is its own."""
    path, model_py = onnx_file(), os.path.join(os.path.dirname(os.path.abspath(__file__)), "model.py")
    if os.path.exists(path) and os.path.getmtime(path) >= os.path.getmtime(model_py):
        return
    import torch
    from model import Model, to_int8, to_onnx

    os.makedirs(args.onnx, exist_ok=True)
    torch.manual_seed(1)
    head = "reconstruct" if args.job == "reconstruct" else "classify"
    to_onnx(Model(head, pruned=args.pruned).eval(), args.batch, path)
    if args.precision == "int8":
        to_int8(path)


def onnxruntime_call():
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = args.threads, 1
    session = onnxruntime.InferenceSession(onnx_file(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})


def openvino_call():
    import openvino

    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": args.threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": args.precision,
        "ENABLE_CPU_PINNING": False,
    }
    request = core.compile_model(core.read_model(onnx_file()), "CPU", settings).create_infer_request()
    return lambda: request.infer({0: x})


calls = {"torch": torch_call, "torch-compile": torch_call, "onnxruntime": onnxruntime_call, "openvino": openvino_call}
if args.export:
    export()
    raise SystemExit
call = calls[args.peer]()
call()
# An eager training step costs seconds and has no more to prepare than heartlore's, of which one is skipped too.
if args.job in ("predict", "reconstruct") or args.peer == "torch-compile":
    call()
repetitions, begin = [], time.perf_counter()
while not repetitions or (sum(r[1] for r in repetitions) < 9 and time.perf_counter() - begin < args.seconds):
    wait, start = waited(), time.perf_counter()
    call()
    seconds = time.perf_counter() - start
    repetitions.append((seconds, waited() - wait <= 0.02e9 * seconds))
clean = [s for s, undisturbed in repetitions if undisturbed]
times = clean or [s for s, _ in repetitions]
print(json.dumps({
    "seconds_per_window": statistics.median(times) / args.batch, "clean": len(clean), "total": len(repetitions),
}))
