#!/usr/bin/env python3
"""Simulated training steps of non-linear networks, the whole batch one tile, on 1, 2 and 4 GPUs of sirocco (K40m on PCI)
and of a composed machine with peer links: Tessera's placing against StarPU's policies on the same graph, the bound, and
the best schedule that a long search finds. Simulated time does not depend on this machine: one run is enough.

usage: bench/interop_machines.py [--networks A,B] [--search N] [--out bench/results/interop_machines.csv]
"""
import argparse, csv, json, pathlib, subprocess, tempfile

root = pathlib.Path(__file__).resolve().parent.parent
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--networks", default="googlenet,inception_v3,randwire,pathnet")
parser.add_argument("--policies", default="dmdas,dmda,dmdar,lws,eager", help="of StarPU; may be empty")
parser.add_argument("--search", type=int, default=100000, help="schedules that the long search tries; 0: none")
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--tessera", default=str(root / "build" / "tessera"))
parser.add_argument("--out", default=str(root / "bench" / "results" / "interop_machines.csv"))
args = parser.parse_args()

PEERS = "--gpus 4xh100 --link 55GB/s --peer 450GB/s --gpu-memory 80G --cpus 4xE5-2680".split()
FIELDS = ["date", "commit", "machine", "gpus", "network", "input", "batch", "policy", "schedules", "step_ms", "planned_ms",
          "bound_ms", "bound_kind", "gpus_that_work"]


def simulated(machine, gpus, network, policy, schedules):
    size = {"inception_v3": 75}.get(network, 32)
    command = ["env", *([f"STARPU_SCHED={policy}"] if policy else []), args.tessera, "simulate", "--machine", machine, "--gpus",
               str(gpus), "--cpus", "0", "--", "train", network, "--data", "cifar10", "--batch", str(args.batch), "--tile",
               str(args.batch), "--input", str(size), "--steps", "5", *([] if schedules is None else ["--schedules", str(schedules)]), "--json"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=3000)
    if run.returncode:
        return print(f"{network} on {machine}: {run.stderr.strip()[-300:]}")
    j = json.loads(run.stdout.strip().splitlines()[-1])
    ms = lambda key: round(1e3 * (j[key] or 0), 4)
    return {"machine": pathlib.Path(machine).name, "gpus": gpus, "network": network, "input": size, "batch": args.batch,
            "policy": j["policy"], "schedules": "default" if schedules is None else schedules, "step_ms": ms("step_seconds"), "planned_ms": ms("planned"),
            "bound_ms": ms("bound"), "bound_kind": j["bound_kind"],
            "gpus_that_work": sum(d["busy"] > 0.01 for d in j["devices"])}


date = subprocess.run(["date", "+%F"], capture_output=True, text=True).stdout.strip()
commit = subprocess.run(["git", "-C", str(root), "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
out = pathlib.Path(args.out)
with tempfile.TemporaryDirectory() as folder:
    peers = str(pathlib.Path(folder) / "h100-peers-450")
    subprocess.run([args.tessera, "machine", "compose", *PEERS, "--out", peers], check=True, capture_output=True)
    for machine in ("sirocco", peers):
        for network in args.networks.split(","):
            for gpus in (1, 2, 4):
                runs = [("", None)] + ([("", args.search)] if gpus > 1 and args.search else []) + \
                    ([(p, 0) for p in args.policies.split(",") if p] if gpus > 1 else [])
                for policy, schedules in runs:
                    row = simulated(machine, gpus, network, policy, schedules)
                    if not row:
                        continue
                    print({k: row[k] for k in ("machine", "gpus", "network", "policy", "schedules", "step_ms", "planned_ms", "bound_ms")},
                          flush=True)
                    new = not out.exists()
                    with out.open("a") as file:
                        writer = csv.DictWriter(file, FIELDS)
                        if new:
                            file.write("# simulated training steps (SGD), f32, the whole batch one tile; schedules: tried by the planner, "
                                       "0: StarPU's policy places; h100-peers-450: 4 H100 as published, host links 55 GB/s, peers 450 GB/s\n")
                            writer.writeheader()
                        writer.writerow({"date": date, "commit": commit, **row})
