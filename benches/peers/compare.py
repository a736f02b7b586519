"""heartlore beside PyTorch, ONNX Runtime and OpenVINO: the same jobs in turn, several rounds, and the ratios.

A ratio is the median over rounds of peer / heartlore, both timed within the same minute: absolute times wander with what
else the machine does, ratios less. `pruned` peers are rewritten so that the last layer computes the read row alone.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--only", nargs="*", default=["pretrain", "finetune", "predict", "reconstruct"])
parser.add_argument("--threads", nargs="*", type=int, default=[1, 2])
parser.add_argument("--batch", nargs="*", type=int, default=[1, 8], help="of prediction")
parser.add_argument("--train-batch", type=int, default=8)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--seconds", type=float, default=6, help="longest time for one figure of one round")
parser.add_argument("--peers", nargs="*", default=["torch", "torch-compile", "onnxruntime", "openvino"])
parser.add_argument("--json", help="file for the figures")
args = parser.parse_args()
HERE = os.path.dirname(os.path.abspath(__file__))


def last_json(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        print(f"  failed: {' '.join(command)}\n{done.stderr[-600:]}", file=sys.stderr)
        return None
    return done.stdout


def ours(job, threads, batch, attention_dropout):
    training = job in ("pretrain", "finetune")
    out = last_json([
        "target/release/heartlore", "bench", "--json", "--quiet", "--what", job, "--threads", str(threads),
        "--train-batch" if training else "--batch", str(batch), "--seconds", str(args.seconds),
        "--attention-dropout", str(attention_dropout),
    ])
    if out is None:
        return None
    found = json.loads(out)["jobs"][0]
    return {k: found[k] for k in ("seconds_per_window", "clean", "total", "gflops")}


def theirs(peer, job, threads, batch, attention_dropout, pruned):
    command = [
        sys.executable, os.path.join(HERE, "peer.py"), "--peer", peer, "--job", job, "--threads", str(threads),
        "--batch", str(batch), "--seconds", str(args.seconds), "--attention-dropout", str(attention_dropout),
    ]
    out = last_json(command + (["--pruned"] if pruned else []))
    return out and json.loads(out.strip().splitlines()[-1])


def cases():
    for threads in args.threads:
        for job in args.only:
            if job == "pretrain":
                for dropout in (0.1, 0.0):
                    yield threads, job, args.train_batch, dropout, [(p, False) for p in args.peers if "torch" in p]
            elif job == "finetune":
                peers = [(p, pruned) for p in args.peers if "torch" in p for pruned in (False, True)]
                yield threads, job, args.train_batch, 0.1, peers
            else:
                pruned = (False, True) if job == "predict" else (False,)
                for batch in args.batch:
                    yield threads, job, batch, 0.1, [(p, q) for p in args.peers for q in pruned]


print(f"{'job':<12}{'threads':>8}{'batch':>6}{'att.drop':>9}  {'program':<22}{'ms/window':>10}{'ratio':>7}  clean")
results = []
for threads, job, batch, dropout, peers in cases():
    mine, others = [], {peer: [] for peer in peers}
    for _ in range(args.rounds):
        mine.append(ours(job, threads, batch, dropout))
        for peer in peers:
            if None not in others[peer]:
                others[peer].append(theirs(peer[0], job, threads, batch, dropout, peer[1]))
    lines = [("heartlore", mine)] + [(p + (" pruned" if q else ""), o) for (p, q), o in others.items()]
    for name, figures in lines:
        if None in figures:
            continue
        ratio = statistics.median(f["seconds_per_window"] / m["seconds_per_window"] for f, m in zip(figures, mine))
        ms = 1e3 * statistics.median(f["seconds_per_window"] for f in figures)
        clean, total = sum(f["clean"] for f in figures), sum(f["total"] for f in figures)
        memory = max((f.get("peak_mib", 0) for f in figures), default=0)
        print(f"{job:<12}{threads:>8}{batch:>6}{dropout:>9}  {name:<22}{ms:>10.1f}{ratio:>7.2f}  {clean}/{total}", flush=True)
        results.append({
            "job": job, "threads": threads, "batch": batch, "attention_dropout": dropout, "program": name,
            "ms_per_window": ms, "ratio": ratio, "clean": clean, "total": total, "peak_mib": memory,
        })
if args.json:
    with open(args.json, "w") as file:
        json.dump(results, file, indent=1)
