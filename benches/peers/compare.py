"""heartlore beside PyTorch, ONNX Runtime, OpenVINO, candle and burn: the same jobs in turn, and the ratios.

A ratio is the median over rounds of peer / heartlore, both timed within the same minute: absolute times wander with what
else the machine does, ratios less. `pruned` peers are rewritten so that the last layer computes the read row alone, which
heartlore does by itself. `MiB` is the largest resident memory of the program (its VmHWM), interpreter and libraries
included, for heartlore without the arrays that its `bench` command measures the machine with.

`--list` names the rows. `--quick` leaves out the peers that no target names, and torch.compile, which compiles for long;
where it would have counted, the closing table says that it is missing.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TARGET = os.environ.get("CARGO_TARGET_DIR", "target")
HEARTLORE = os.path.join(TARGET, "release", "heartlore")
RUST = os.path.join(TARGET, "peers-rust", "release", "heartlore-peers")
PEERS = ["torch", "torch-compile", "onnxruntime", "openvino", "candle", "burn"]
# Which programs do what. bf16 is PyTorch's autocast and OpenVINO's precision hint; int8 is ONNX Runtime's dynamic quantisation,
# weights by channel. All else is f32.
TRAIN, TRAIN_BF16 = ["torch", "torch-compile", "candle", "burn"], ["torch", "torch-compile"]
INFER_BF16, INFER_INT8 = ["torch", "openvino"], ["onnxruntime"]
# The rows of the closing table: row, peers that count, rewritten or not, ratio wanted.
TORCH, RUNTIMES = {"torch", "torch-compile"}, {"onnxruntime", "openvino"}
TARGETS = [
    ("pretrain", TORCH, False, 2.7),
    ("pretrain-nodrop", TORCH, False, 2.2),
    ("pretrain-bf16", TORCH, False, 2.0),
    ("finetune", TORCH, False, 2.7),
    ("finetune", TORCH, True, 1.8),
    *((f"predict-{b}", RUNTIMES, pruned, t) for b in (1, 8) for pruned, t in ((False, 2.1), (True, 1.5))),
    *((f"predict-{b}-bf16", {"openvino"}, pruned, t) for b in (1, 8) for pruned, t in ((False, 1.9), (True, 1.35))),
    *((f"reconstruct-{b}", {"openvino"}, False, 1.2) for b in (1, 8)),
]


def rows(train_batch, batches):
    """Every row by name: job, batch, precision, dropout on the attention weights, programs (peer, pruned)."""
    plain, both = (False,), (False, True)
    table = {
        "pretrain": ("pretrain", train_batch, "f32", 0.1, TRAIN, plain),
        "pretrain-nodrop": ("pretrain", train_batch, "f32", 0.0, TRAIN, plain),
        "pretrain-bf16": ("pretrain", train_batch, "bf16", 0.1, TRAIN_BF16, plain),
        "finetune": ("finetune", train_batch, "f32", 0.1, TRAIN, both),
        "finetune-bf16": ("finetune", train_batch, "bf16", 0.1, TRAIN_BF16, both),
    }
    for b in batches:
        table[f"predict-{b}"] = ("predict", b, "f32", 0.1, PEERS, both)
        table[f"predict-{b}-bf16"] = ("predict", b, "bf16", 0.1, INFER_BF16, both)
        table[f"predict-{b}-int8"] = ("predict", b, "int8", 0.1, INFER_INT8, both)
        table[f"reconstruct-{b}"] = ("reconstruct", b, "f32", 0.1, PEERS, plain)
        table[f"reconstruct-{b}-bf16"] = ("reconstruct", b, "bf16", 0.1, INFER_BF16, plain)
        table[f"reconstruct-{b}-int8"] = ("reconstruct", b, "int8", 0.1, INFER_INT8, plain)
    return {
        name: (job, batch, precision, dropout, [(p, q) for p in peers for q in pruned])
        for name, (job, batch, precision, dropout, peers, pruned) in table.items()
    }


def quick_programs(name, programs):
    wanted = {(peer, pruned) for row, peers, pruned, _ in TARGETS if row == name for peer in peers}
    return [p for p in programs if p in wanted and p[0] != "torch-compile"]


def finish(process, command, stdout, stderr):
    """Waits, and returns the program's output and its largest resident memory in MiB."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    stdout.seek(0)
    if process.returncode != 0:
        stderr.seek(0)
        print(f"  failed: {' '.join(command)}\n{stderr.read()[-600:]}", file=sys.stderr)
        return None, 0
    return stdout.read(), usage.ru_maxrss / 1024


def run(command, **env):
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, text=True, env=os.environ | env)
        return finish(process, command, out, err)


def run_bench(command):
    """`run` for `heartlore bench`, which prints a note once it has measured the machine with large arrays and given them
    back: from there on its largest resident memory counts anew, and is looked at until it ends."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, text=True)
        err.write(process.stderr.readline())
        seen = 0
        try:
            with open(f"/proc/{process.pid}/clear_refs", "w") as file:
                file.write("5")
            while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                with open(f"/proc/{process.pid}/status") as file:
                    seen = next((int(line.split()[1]) for line in file if line.startswith("VmHWM")), 0) or seen
                time.sleep(0.05)
        except OSError:
            seen = 0
        err.write(process.stderr.read())
        process.stderr.close()
        text, whole = finish(process, command, out, err)
        return text, seen / 1024 or whole


def ours(job, threads, batch, precision, attention_dropout, seconds):
    training = job in ("pretrain", "finetune")
    out, memory = run_bench([
        HEARTLORE, "bench", "--json", "--what", job, "--threads", str(threads),
        "--train-batch" if training else "--batch", str(batch), "--seconds", str(seconds),
        "--attention-dropout", str(attention_dropout), "--precision", precision,
    ])
    if out is None:
        return None
    found = json.loads(out)["jobs"][0]
    return {k: found[k] for k in ("seconds_per_window", "clean", "total")} | {"mib": memory}


def theirs(peer, pruned, job, threads, batch, precision, attention_dropout, seconds):
    flags = ["--peer", peer, "--job", job, "--batch", str(batch)] + (["--pruned"] if pruned else [])
    timing = ["--seconds", str(seconds), "--attention-dropout", str(attention_dropout)]
    if peer in ("candle", "burn"):
        out, memory = run([RUST] + flags + timing, RAYON_NUM_THREADS=str(threads))
    else:
        script = [sys.executable, os.path.join(HERE, "peer.py")] + flags + ["--precision", precision]
        if peer in ("onnxruntime", "openvino") and run(script + ["--export"])[0] is None:
            return None
        out, memory = run(script + timing + ["--threads", str(threads)])
    return out and json.loads(out.strip().splitlines()[-1]) | {"mib": memory}


def measure(args, table):
    print(f"{'row':<21}{'threads':>7}  {'program':<22}{'ms/window':>10}{'ratio':>7}{'MiB':>7}  clean")
    results = []
    for threads in args.threads:
        for name in args.row:
            job, batch, precision, dropout, programs = table[name]
            if args.quick and any(name == row for row, *_ in TARGETS):
                programs = quick_programs(name, programs)
            programs = [p for p in programs if p[0] in args.peers]
            mine, others = [], {program: [] for program in programs}
            for _ in range(args.rounds):
                mine.append(ours(job, threads, batch, precision, dropout, args.seconds))
                for peer, pruned in programs:
                    found = others[peer, pruned]
                    if None not in found and mine[-1]:
                        found.append(theirs(peer, pruned, job, threads, batch, precision, dropout, args.seconds))
            if None in mine:
                continue
            for (peer, pruned), figures in [(("heartlore", False), mine)] + list(others.items()):
                if None in figures:
                    continue
                r = {
                    "row": name, "threads": threads, "batch": batch, "attention_dropout": dropout, "program": peer,
                    "pruned": pruned, "precision": precision,
                    "ms_per_window": 1e3 * statistics.median(f["seconds_per_window"] for f in figures),
                    "ratio": statistics.median(
                        f["seconds_per_window"] / m["seconds_per_window"] for f, m in zip(figures, mine)
                    ),
                    "mib": max(f["mib"] for f in figures),
                    "clean": sum(f["clean"] for f in figures), "total": sum(f["total"] for f in figures),
                }
                results.append(r)
                print(
                    f"{name:<21}{threads:>7}  {peer + (' pruned' if pruned else ''):<22}{r['ms_per_window']:>10.1f}"
                    f"{r['ratio']:>7.2f}{r['mib']:>7.0f}  {r['clean']}/{r['total']}",
                    flush=True,
                )
    return results


def verdicts(args, results):
    """A line for every target of a row that was asked for: the fastest peer of those that count, and ours."""
    print(f"\n{'target':<29}{'threads':>7}  {'best peer':<15}{'ms':>8}{'ours':>8}{'ratio':>7}{'wanted':>8}")
    lines = []
    for name, peers, pruned, wanted in TARGETS:
        for threads in args.threads if name in args.row else []:
            here = [r for r in results if r["row"] == name and r["threads"] == threads]
            mine = next((r for r in here if r["program"] == "heartlore"), None)
            others = [r for r in here if r["program"] in peers and r["pruned"] == pruned]
            label = name + (" (peer pruned)" if pruned else "")
            if mine is None or not others:
                print(f"{label:<29}{threads:>7}  not measured")
                continue
            best = min(others, key=lambda r: r["ms_per_window"])
            met = best["ratio"] >= wanted
            missing = sorted(peers - {r["program"] for r in others})
            remark = "met" if met else "not met"
            remark += f" (without {', '.join(missing)})" if missing else ""
            print(
                f"{label:<29}{threads:>7}  {best['program']:<15}{best['ms_per_window']:>8.1f}"
                f"{mine['ms_per_window']:>8.1f}{best['ratio']:>7.2f}{wanted:>8.2f}  {remark}"
            )
            lines.append({
                "row": name, "pruned": pruned, "threads": threads, "peer": best["program"], "not_measured": missing,
                "peer_ms": best["ms_per_window"], "heartlore_ms": mine["ms_per_window"], "ratio": best["ratio"],
                "wanted": wanted, "met": met,
            })
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", nargs="*", help="only these rows [default: those with a target]")
    parser.add_argument("--list", action="store_true", help="print the names of the rows and end")
    parser.add_argument("--quick", action="store_true", help="one round, 2 s a figure, the peers that decide")
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--batch", nargs="*", type=int, default=[1, 8], help="of prediction")
    parser.add_argument("--train-batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, help="[default: 3, quick 1]")
    parser.add_argument("--seconds", type=float, help="longest time for one figure of one round [default: 6, quick 2]")
    parser.add_argument("--peers", nargs="*", default=PEERS, choices=PEERS)
    parser.add_argument("--json", help="file for the figures")
    args = parser.parse_args()
    table = rows(args.train_batch, args.batch)
    if args.list:
        print("\n".join(table))
        return
    with_target = dict.fromkeys(row for row, *_ in TARGETS)
    args.row = args.row or [name for name in table if name in with_target]
    if unknown := [name for name in args.row if name not in table]:
        parser.error(f"no row {', '.join(unknown)}; rows: {', '.join(table)}")
    args.rounds = args.rounds or (1 if args.quick else 3)
    args.seconds = args.seconds or (2 if args.quick else 6)
    if not os.path.exists(RUST) and not args.quick and {"candle", "burn"} & set(args.peers):
        print(f"{RUST} is not there: without candle and burn", file=sys.stderr)
        args.peers = [p for p in args.peers if p not in ("candle", "burn")]
    begin = time.monotonic()
    results = measure(args, table)
    targets = verdicts(args, results)
    print(f"\n{(time.monotonic() - begin) / 60:.1f} minutes, load {' '.join(f'{v:.1f}' for v in os.getloadavg())}")
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"figures": results, "targets": targets}, file, indent=1)


main()
