#!/usr/bin/env python3
"""Time of a training step of resnet18 and googlenet in Tessera and in PyTorch: CIFAR's size, batch 64, SGD with
momentum, f32.

Runs are interleaved, round by round, because the speed of shared machines drifts; the ratio is the median over rounds
of PyTorch's time, the best of all thread counts and memory formats in the same round, against Tessera's. Appends to a
CSV with machine and commit. `tessera train` also evaluates the images that it does not train on; a folder with no more
than the steps need, made with head -c $((40 * 64 * 3073)) data_batch_1.bin, saves that time.
usage: bench/networks_vs_pytorch.py --data DIR [--networks resnet18,googlenet] [--rounds N] [--steps N] [--out FILE.csv]
"""
import argparse
import csv
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

BATCH = 64
ROOT = pathlib.Path(__file__).resolve().parent.parent


def parsed():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", metavar="DIR", required=True, help="folder with CIFAR-10's binary files")
    p.add_argument("--networks", default="resnet18,googlenet", type=lambda text: text.split(","))
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--steps", type=int, default=40, help="of Tessera's run")
    p.add_argument("--pytorch-steps", type=int, default=10, help="timed in each of PyTorch's runs")
    p.add_argument("--threads", default="1,2", type=lambda text: [int(n) for n in text.split(",")])
    p.add_argument("--python", default="/usr/bin/python3", help="a Python with PyTorch")
    p.add_argument("--tessera", default=str(ROOT / "build" / "tessera"))
    p.add_argument("--out", default=str(ROOT / "bench" / "results" / "networks_vs_pytorch.csv"))
    return p.parse_args()


def held_out(folder, steps):
    """The fraction that leaves that many steps of training."""
    files = list(folder.glob("data_batch_*.bin")) or list(folder.glob("test_batch.bin"))
    images, wanted = sum(f.stat().st_size for f in files) // 3073, steps * BATCH
    if images < wanted:
        sys.exit(f"error: {steps} steps need {wanted} images, {folder} has {images} to train on")
    return f"{1 - wanted / images:.8g}"


def last_json(command):
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"error: {' '.join(command)}\n{run.stderr.strip()}")
    return json.loads(run.stdout.strip().splitlines()[-1])


def tessera_command(args, network, data):
    validation = held_out(pathlib.Path(args.data), args.steps)
    return ["train", network, "--data", f"cifar10:{data}", "--validation", validation, "--batch", str(BATCH),
            "--epochs", "1", "--lr", "0.01", "--quiet", "--json"]


def peer_command(args, network):
    return ["bench/pytorch_networks.py", "--bench", network, "--batch", str(BATCH), "--lr", "0.01",
            "--steps", str(args.pytorch_steps)]


def peer_ms(args, network, threads, formats):
    script, *flags = peer_command(args, network)
    run = last_json([args.python, str(ROOT / script), *flags, "--threads", str(threads), *formats])
    return 1e3 / run["steps_per_s"]


def round_of(args, network):
    run = last_json([args.tessera, *tessera_command(args, network, args.data)])
    row = {"tessera_ms": 1e3 * BATCH / run["samples_per_s"], "efficiency": run["efficiency"]}
    peers = {}
    for threads in args.threads:
        peers[f"pytorch_{threads}_ms"] = peer_ms(args, network, threads, [])
        peers[f"pytorch_{threads}_channels_last_ms"] = peer_ms(args, network, threads, ["--channels-last"])
    return row | peers | {"ratio": min(peers.values()) / row["tessera_ms"]}


def machine():
    with open("/proc/cpuinfo") as file:
        names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return {"date": datetime.date.today(), "commit": commit.stdout.strip(),
            "cpu": names[0] if names else platform.machine(), "cpus": os.cpu_count()}


def append(path, row):
    new = not path.exists()
    with path.open("a", newline="") as file:
        if new:
            file.write(f"# batch {BATCH}, SGD momentum, f32; ms per step; ratio = best PyTorch / Tessera\n")
        out = csv.DictWriter(file, row)
        if new:
            out.writeheader()
        out.writerow({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()})


def main():
    args = parsed()
    rows = []
    for network in args.networks:  # performance models fill, files are cached
        last_json([args.tessera, *tessera_command(args, network, args.data)])
    for i in range(args.rounds):
        for network in args.networks:
            measured = round_of(args, network)
            print(f"round {i} {network}", {k: round(v, 3) for k, v in measured.items()}, flush=True)
            commands = {"command": " ".join(["tessera", *tessera_command(args, network, "DIR")]),
                        "peer": " ".join([*peer_command(args, network), "--threads N [--channels-last]"])}
            rows.append(machine() | commands | {"network": network, "round": i} | measured)
            append(pathlib.Path(args.out), rows[-1])  # as they come: what was measured before an interruption counts
    for network in args.networks:
        ratios = [row["ratio"] for row in rows if row["network"] == network]
        print(f"{network}: median ratio {statistics.median(ratios):.3f}")


main()
