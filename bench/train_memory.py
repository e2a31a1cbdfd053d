#!/usr/bin/env python3
"""Simulated training steps on 4 K40m (StarPU's machine sirocco) whose memory is limited, with and without cores beside
them, by policy. Writes a row for each.

usage: bench/train_memory.py [--policies A,B] [--out bench/results/train_memory.csv]
"""
import argparse
import csv
import json
import os
import pathlib
import subprocess

root = pathlib.Path(__file__).resolve().parent.parent
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--policies", default="reuse,dmdas,dmda")
parser.add_argument("--tessera", default=str(root / "build" / "tessera"))
parser.add_argument("--out", default=str(root / "bench" / "results" / "train_memory.csv"))
args = parser.parse_args()

MLP = "mlp --data digits --hidden 8192,8192 --batch 4096 --tile 1024"
RESNET = "resnet18 --data cifar10 --batch 256 --tile 32"
CASES = [(MLP, memory, cores) for memory in ("250M", "500M", "1G") for cores in (0, 4, 8, 20)] + \
    [(RESNET, "300M", cores) for cores in (0, 8)]
FIELDS = ["date", "commit", "network", "gpu_memory", "cores", "policy", "step_ms", "gigabytes_moved"]
HEADER = "# tessera simulate --machine sirocco --cpus CORES -- train NETWORK --gpu-memory GPU_MEMORY --steps 3, f32, SGD\n"


def simulated(network, memory, cores, policy):
    command = [args.tessera, "simulate", "--machine", "sirocco", "--cpus", str(cores), "--", "train", *network.split(),
               "--gpu-memory", memory, "--steps", "3", "--json", "--quiet"]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "STARPU_SCHED": policy})
    if run.returncode:
        raise SystemExit(run.stderr)
    j = json.loads(run.stdout.strip().splitlines()[-1])
    return {"network": network, "gpu_memory": memory, "cores": cores, "policy": policy,
            "step_ms": round(1e3 * j["step_seconds"], 1),
            "gigabytes_moved": round(sum(b["bytes"] for b in j["bytes"]) / 3e9, 2)}


date = subprocess.run(["date", "+%F"], capture_output=True, text=True).stdout.strip()
commit = subprocess.run(["git", "-C", str(root), "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
with open(args.out, "w") as file:
    file.write(HEADER)
    writer = csv.DictWriter(file, FIELDS)
    writer.writeheader()
    for case in CASES:
        for policy in args.policies.split(","):
            row = {"date": date, "commit": commit, **simulated(*case, policy)}
            print(row, flush=True)
            writer.writerow(row)
            file.flush()
