#!/usr/bin/env python3
"""How far a simulated training step is from a real one on this machine: MLPs of three sizes, and the ranking of policies.

Each round calibrates afresh, runs, and simulates, so that the machine's drift meets all three; medians over rounds.
usage: bench/fidelity.py [--rounds N] [--out bench/results/fidelity.csv]
"""
import argparse, csv, datetime, json, os, pathlib, platform, statistics, subprocess, tempfile

root = pathlib.Path(__file__).resolve().parent.parent
parser = argparse.ArgumentParser()
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--tessera", default=str(root / "build" / "tessera"))
parser.add_argument("--out", default=str(root / "bench" / "results" / "fidelity.csv"))
args = parser.parse_args()

hidden = ["256,256", "1024,1024", "2048,2048"]
policies = ["list", "prio", "lws", "dmdas", "eager"]
machine = os.uname().nodename.split(".")[0]


def last_json(command, environment):
    run = subprocess.run([args.tessera, *command], check=True, capture_output=True, text=True, env={**os.environ, **environment})
    return json.loads(run.stdout.strip().splitlines()[-1])


def network(widths):
    return ["train", "mlp", "--data", "digits:5120", "--batch", "256", "--hidden", widths, "--lr", "0.01", "--quiet", "--json"]


cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
commit = subprocess.run(["git", "-C", str(root), "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
rows = []
for r in range(args.rounds):
    for widths in hidden:
        with tempfile.TemporaryDirectory() as cache:
            base = {"TESSERA_CACHE": cache}
            subprocess.run([args.tessera, "calibrate", *network(widths)], check=True, capture_output=True, env={**os.environ, **base})
            for policy in policies if widths == "1024,1024" else ["list"]:
                environment = {**base, "STARPU_SCHED": policy}
                real = 256 / last_json([*network(widths), "--epochs", "3"], environment)["samples_per_s"]
                simulated = last_json(["simulate", "--machine", machine, "--", *network(widths), "--steps", "20"], environment)["step_seconds"]
                rows.append({"round": r, "hidden": widths, "policy": policy, "real_ms": 1e3 * real, "simulated_ms": 1e3 * simulated,
                             "error": simulated / real - 1})
                print({k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)

for widths in hidden:
    errors = [abs(x["error"]) for x in rows if x["hidden"] == widths and x["policy"] == "list"]
    print(f"hidden {widths}: median |error| {100 * statistics.median(errors):.1f} %")
ranking = {which: sorted(policies, key=lambda p: statistics.median(x[which] for x in rows if x["hidden"] == "1024,1024" and x["policy"] == p))
           for which in ("real_ms", "simulated_ms")}
print("policies by real time:     ", *ranking["real_ms"])
print("policies by simulated time:", *ranking["simulated_ms"])
with open(args.out, "a", newline="") as f:
    out = csv.writer(f)
    if f.tell() == 0:
        out.writerow(["date", "commit", "cpu", "cores", *rows[0]])
    for x in rows:
        out.writerow([datetime.date.today(), commit, cpu, os.cpu_count(), *(f"{v:.4f}" if isinstance(v, float) else v for v in x.values())])
