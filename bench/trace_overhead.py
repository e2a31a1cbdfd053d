#!/usr/bin/env python3
"""What --trace costs: the ratio of the times of the same products with and without a trace, for tasks of several lengths.

Each line of the CSV is one call of `tessera bench trace`, which interleaves the compared runs: the median of the paired
ratios, its quartiles, and that of plain runs among themselves, which says how quiet the machine was.
usage: bench/trace_overhead.py [--repeats N] [--rounds N] [--out bench/results/trace_overhead.csv]
"""
import argparse, csv, datetime, json, os, pathlib, platform, subprocess

root = pathlib.Path(__file__).resolve().parent.parent
parser = argparse.ArgumentParser()
parser.add_argument("--repeats", type=int, default=3)
parser.add_argument("--rounds", type=int, default=15)
parser.add_argument("--task-us", type=int, nargs="+", default=[50, 200, 1000])
parser.add_argument("--tessera", default=str(root / "build" / "tessera"))
parser.add_argument("--out", default=str(root / "bench" / "results" / "trace_overhead.csv"))
args = parser.parse_args()

figures = ["policy", "workers", "n", "tasks", "task_us", "overhead_us", "ratio", "ratio_low", "ratio_high", "ratio_plain"]
cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
commit = subprocess.run(["git", "-C", str(root), "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
rows = []
for _ in range(args.repeats):
    for us in args.task_us:
        command = ["bench", "trace", "--task-us", str(us), "--tasks", str(max(200, 400000 // us)), "--rounds", str(args.rounds), "--json"]
        run = subprocess.run([args.tessera, *command], check=True, capture_output=True, text=True)
        result = json.loads(run.stdout.strip().splitlines()[-1])
        values = [f"{v:.4g}" if isinstance(v, float) else v for v in (result[k] for k in figures)]
        print(f"{us} us:", ", ".join(f"{k} {v}" for k, v in zip(figures, values)), flush=True)
        rows.append([datetime.date.today(), commit, cpu, os.cpu_count(), " ".join(["tessera", *command]), *values])
out = pathlib.Path(args.out)
new = not out.exists()
with out.open("a", newline="") as file:
    if new:
        file.write("# one-tile f32 products with a trace against the same without, runs interleaved; times in us of a worker per task\n")
        csv.writer(file).writerow(["date", "commit", "cpu", "cpus", "command", *figures])
    csv.writer(file).writerows(rows)
