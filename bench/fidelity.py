#!/usr/bin/env python3
"""How far a simulated run is from a real one on this machine: MLPs of three sizes, products of three sizes, and the order
of policies by time.

Each round calibrates afresh between two real runs, so that the machine's drift meets both alike; their mean is compared
with the simulation. Real training is timed epoch by epoch, without the first, in which kernels are generated and pages are
touched; a simulated one has as many steps as an epoch, and both end with all workers idle. Medians over rounds.
Policies take turns within a round; two of them have an order where the median ratio of their times within a turn is
beyond a tie, and three quarters of the turns agree.
usage: bench/fidelity.py [--rounds N] [--out bench/results/fidelity.csv]
"""
import argparse, csv, datetime, json, os, pathlib, platform, statistics, subprocess, tempfile

root = pathlib.Path(__file__).resolve().parent.parent
parser = argparse.ArgumentParser()
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--tessera", default=str(root / "build" / "tessera"))
parser.add_argument("--only", nargs="*", help="labels of cases, as they are printed")
parser.add_argument("--out", default=str(root / "bench" / "results" / "fidelity.csv"))
args = parser.parse_args()

policies = ["list", "prio", "lws", "dmdas", "eager"]
ranked, turns = "mlp 1024,1024", 4
tie = 0.05  # policies whose real times are nearer than this have no order
steps, epochs = 40, 4
machine = os.uname().nodename.split(".")[0]


def tessera(*command, env):
    run = subprocess.run([args.tessera, *command], check=True, capture_output=True, text=True, env={**os.environ, **env})
    return run.stdout.strip().splitlines()[-1]


def mlp(widths):
    flags = ["train", "mlp", "--data", f"digits:{steps * 256}", "--batch", "256", "--hidden", widths, "--lr", "0.01", "--quiet", "--json"]

    def real(env, folder):
        metrics = pathlib.Path(folder) / "metrics.jsonl"
        tessera(*flags, "--epochs", str(epochs), "--metrics", str(metrics), env=env)
        lines = [json.loads(l) for l in metrics.read_text().splitlines()]
        return statistics.median(l["seconds"] / steps for l in lines if l.get("epoch", 0) > 1)

    def simulated(env):
        return json.loads(tessera("simulate", "--machine", machine, "--", *flags, "--steps", str(steps), env=env))["step_seconds"]

    return flags, real, simulated


def gemm(n, tile):
    flags = ["gemm", "--n", str(n), "--tile", str(tile), "--quiet", "--json"]

    def real(env, folder):
        return json.loads(tessera(*flags, "--repeat", "11", env=env))["seconds"]

    def simulated(env):
        return json.loads(tessera("simulate", "--machine", machine, "--", *flags, env=env))["seconds"]

    return flags, real, simulated


cases = {f"mlp {w}": mlp(w) for w in ("256,256", "1024,1024", "2048,2048")} | {f"gemm {n}": gemm(n, t) for n, t in ((1024, 256), (2048, 512), (4096, 1024))}
if args.only:
    cases = {label: cases[label] for label in args.only}
cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
commit = subprocess.run(["git", "-C", str(root), "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
rows = []
out = pathlib.Path(args.out)
fields = ["round", "case", "policy", "real_ms", "simulated_ms", "error"]
out.write_text(f"# bench/fidelity.py --rounds {args.rounds}; real_ms is the mean of a run before and one after the calibration\n"
               + ",".join(["date", "commit", "cpu", "cores", *fields]) + "\n")


def keep(row):
    """Written as they come: what was measured before an interruption counts."""
    rows.append(row)
    with out.open("a", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow([datetime.date.today(), commit, cpu, os.cpu_count(), *(f"{v:.4f}" if isinstance(v, float) else v for v in row.values())])
    print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, flush=True)


for r in range(args.rounds):
    for label, (flags, real, simulated) in cases.items():
        with tempfile.TemporaryDirectory() as cache:
            environment = {p: {"TESSERA_CACHE": cache, "STARPU_SCHED": p} for p in policies}
            tessera("calibrate", *flags, env=environment["list"])
            before = real(environment["list"], cache)
            tessera("calibrate", "--reset", *flags, env=environment["list"])
            a, b = (before + real(environment["list"], cache)) / 2, simulated(environment["list"])
            keep({"round": r, "case": label, "policy": "list", "real_ms": 1e3 * a, "simulated_ms": 1e3 * b, "error": b / a - 1})
            for turn in range(turns if label == ranked else 0):
                for policy in policies[turn:] + policies[:turn]:
                    a, b = real(environment[policy], cache), simulated(environment[policy])
                    keep({"round": r * turns + turn, "case": f"{label}, turn", "policy": policy, "real_ms": 1e3 * a, "simulated_ms": 1e3 * b, "error": b / a - 1})


def ratios(which, p, q):
    times = {(x["round"], x["policy"]): x[which] for x in rows if x["case"] == f"{ranked}, turn"}
    return [t / times[turn, q] for (turn, policy), t in times.items() if policy == p]


def before(p, q):
    real = ratios("real_ms", p, q)
    return statistics.median(real) * (1 + tie) < 1 and sum(x < 1 for x in real) >= 0.75 * len(real)


for label in cases:
    errors = [x["error"] for x in rows if x["case"] == label and x["policy"] == "list"]
    print(f"{label}: median |error| {100 * statistics.median(map(abs, errors)):.1f} %, median error {100 * statistics.median(errors):+.1f} %")
print(f"all: median |error| {100 * statistics.median(abs(x['error']) for x in rows if x['policy'] == 'list'):.1f} %")
if ranked in cases:
    for p in policies[1:]:
        print(f"{p} / list: {statistics.median(ratios('real_ms', p, 'list')):.3f} real, {statistics.median(ratios('simulated_ms', p, 'list')):.3f} simulated")
    pairs = [(p, q) for p in policies for q in policies if before(p, q)]
    wrong = [f"{p} before {q}" for p, q in pairs if statistics.median(ratios("simulated_ms", p, q)) >= 1]
    print(f"policies: {len(pairs)} pairs have an order in real runs, {len(wrong)} of them the other way round in simulation", *wrong)
