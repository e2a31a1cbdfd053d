#!/usr/bin/env python3
"""Steps per second of the MLP 784-1024-1024-10 (batch 256, SGD with momentum, f32) in Tessera and in PyTorch.

Runs are interleaved, round by round, because the speed of shared machines drifts; the ratio is the median over rounds of
Tessera's rate against the better of PyTorch's with one and two threads in the same round. Tessera's performance models
are those of one such run before the first round. Appends to a CSV with machine and commit.
usage: bench/mlp_vs_pytorch.py [--rounds N] [--python PYTHON] [--out bench/results/mlp_vs_pytorch.csv]
"""
import argparse, csv, datetime, json, os, pathlib, platform, statistics, subprocess, tempfile

root = pathlib.Path(__file__).resolve().parent.parent
parser = argparse.ArgumentParser()
parser.add_argument("--rounds", type=int, default=7)
parser.add_argument("--python", default="/usr/bin/python3", help="a Python with PyTorch")
parser.add_argument("--tessera", default=str(root / "build" / "tessera"))
parser.add_argument("--out", default=str(root / "bench" / "results" / "mlp_vs_pytorch.csv"))
args = parser.parse_args()

tessera = [args.tessera, "train", "mlp", "--data", "digits:12800", "--hidden", "1024,1024", "--batch", "256",
           "--optimizer", "sgd", "--lr", "0.01", "--epochs", "4", "--quiet", "--json"]


cache = tempfile.TemporaryDirectory(prefix="tessera-mlp-")


def last_json(command):
    run = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "TESSERA_CACHE": cache.name})
    return json.loads(run.stdout.strip().splitlines()[-1])


def torch_ms(threads):
    script = str(root / "bench" / "pytorch_mlp.py")
    return 1e3 / last_json([args.python, script, "--bench", "--threads", str(threads), "--steps", "100"])["steps_per_s"]


cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
commit = subprocess.run(["git", "-C", str(root), "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
last_json(tessera)
rows = []
for i in range(args.rounds):
    run = last_json(tessera)
    row = {"round": i, "tessera_ms": 1e3 * 256 / run["samples_per_s"], "efficiency": run["efficiency"],
           "pytorch_1_ms": torch_ms(1), "pytorch_2_ms": torch_ms(2)}
    row["ratio"] = min(row["pytorch_1_ms"], row["pytorch_2_ms"]) / row["tessera_ms"]
    print({k: round(v, 3) for k, v in row.items()}, flush=True)
    rows.append(row)
out = pathlib.Path(args.out)
new = not out.exists()
with out.open("a") as file:
    if new:
        file.write("# MLP 784-1024-1024-10, batch 256, SGD momentum, f32; ms per step; ratio = best PyTorch / Tessera\n")
        csv.writer(file).writerow(["date", "commit", "cpu", "cpus", "command", *rows[0]])
    for row in rows:
        csv.writer(file).writerow([datetime.date.today(), commit, cpu, os.cpu_count(), " ".join(["tessera", *tessera[1:]]),
                                   *(f"{v:.4g}" for v in row.values())])
print(f"median ratio {statistics.median(r['ratio'] for r in rows):.3f}")
