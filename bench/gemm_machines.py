#!/usr/bin/env python3
"""`tessera gemm` on simulated machines: policy reuse with blocks, and StarPU's own policies with one task after another.

A simulation is deterministic, so each product is simulated once and appended to a CSV; what is there of this commit is
not run again. Groups: table, sweep (memory limits), mixed, sizes, speedup (1 to 4 GPUs), random (20 made-up machines:
2 to 8 GPUs, speeds to 8:1, memories to 4:1, A + B + C four times all memories, links of 4 to 16 GB/s, one host link).
usage: bench/gemm_machines.py [--only GROUP,...] [--machines FOLDER] [--summary] [--out bench/results/gemm_machines.csv]
"""
import argparse, csv, datetime, json, math, os, pathlib, random, signal, statistics, subprocess, sys, time

root = pathlib.Path(__file__).resolve().parent.parent
groups = ["table", "sweep", "mixed", "sizes", "speedup", "random"]
stock = ["eager", "lws", "dmda", "dmdar", "dmdas"]
parser = argparse.ArgumentParser()
parser.add_argument("--only", default=",".join(groups), help="groups to run: " + ", ".join(groups))
parser.add_argument("--seeds", default="1-20", help="random machines to run, e.g. 3 or 1-5")
parser.add_argument("--policies", default="all", help="all, ours, stock, or names of policies")
parser.add_argument("--limit", type=float, default=300, help="seconds of real time for one simulation")
parser.add_argument("--again", action="store_true", help="run what the CSV has already")
parser.add_argument("--summary", action="store_true", help="run nothing")
parser.add_argument("--machines", default=str(root / "build" / "machines"), help="folder for the made-up machines")
parser.add_argument("--tessera", default=str(root / "build" / "tessera"))
parser.add_argument("--out", default=str(root / "bench" / "results" / "gemm_machines.csv"))
args = parser.parse_args()

columns = ["date", "commit", "case", "machine", "gpus", "n", "tile", "memory", "policy", "order", "seconds", "gflops", "efficiency",
           "q", "bound", "bound_kind", "shares", "note", "real_seconds", "command", "made_by"]
tile = 960
machines = pathlib.Path(args.machines)


def git(*words):
    return subprocess.run(["git", "--no-optional-locks", "-C", str(root), *words], capture_output=True, text=True).stdout.strip()


def commit_of_sources():
    """HEAD, with a + if what simulations depend on differs from it."""
    changed = git("status", "--porcelain", "--", "core", "codelets", "graphs", "models", "apps", "schedulers", "perfmodels")
    return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")


def product(machine, n, memory="", gpus="", made_by=""):
    name = "-".join([machine, f"n{n}", *([f"{gpus}gpus"] if gpus else []), *([memory] if memory else [])])
    return {"case": name, "machine": machine, "gpus": gpus, "n": n, "tile": tile, "memory": memory, "made_by": made_by}


def random_machine(seed):
    """The words of `tessera machine compose`, and n. Fixed by the seed alone."""
    r = random.Random(seed)
    count = r.randint(2, 8)
    speeds = [math.exp(r.uniform(math.log(1 / 8), 0)) for _ in range(count)]  # of a K40m's
    mebibytes = [r.uniform(128, 512) for _ in range(count)]
    links = [r.uniform(4, 16) for _ in range(count)]
    n = 960 * round(math.sqrt(4 * sum(mebibytes) * 2**20 / 12) / 960)
    n = min(max(n, 9600), 28800)
    factor = 12 * n * n / 4 / 2**20 / sum(mebibytes)  # so that A, B and C are four times the memories
    parts = lambda values, text: ",".join(text.format(v) for v in values)
    return ["--gpus", ",".join(["1xsirocco"] * count), "--cpus", "0", "--scale", parts(speeds, "{:.3f}"), "--gpu-memory",
            parts([m * factor for m in mebibytes], "{:.0f}M"), "--link", parts(links, "{:.1f}GB/s")], n


def random_case(seed):
    words, n = random_machine(seed)
    name = f"random-{seed:02d}"
    return product(name, n, made_by=" ".join(["tessera machine compose", *words, "--out", f"machines/{name}"]))


def seeds():
    first, _, last = args.seeds.partition("-")
    return range(int(first), int(last or first) + 1)


def cases_of(group):
    if group == "table":
        return [product("sirocco", 19200), product("sirocco", 19200, "250M"), product("mirage", 19200, "250M")]
    if group == "sweep":
        return [product("sirocco", 19200, m) for m in ("150M", "200M", "250M", "350M", "500M", "1G", "2G", "")]
    if group == "mixed":
        return [product("mixed-k40m-m2070", 19200), product("mixed-k40m-m2070", 19200, "250M"), product("hannibal", 19200)]
    if group == "sizes":
        return [product("sirocco", n, gpus=g) for n in (1920, 4800, 9600, 19200) for g in (1, 2, 3, 4)]
    if group == "speedup":
        return [product("sirocco", 38400, gpus=g) for g in (1, 2, 3, 4)]
    return [random_case(s) for s in seeds()]


def policies_of(group):
    """Pairs of policy and order."""
    ours, theirs = [("reuse", "blocked")], [(p, "plain") for p in stock]
    every = ours if group in ("sizes", "speedup") else ours + theirs
    if group == "sweep":
        every = ours + [("reuse", "plain"), ("dmdas", "blocked")] + theirs
    if args.policies == "all":
        return every
    if args.policies in ("ours", "stock"):
        return [p for p in every if p in (ours if args.policies == "ours" else theirs)]
    return [p for p in every if p[0] in args.policies.split(",")]


def machine_of(case):
    """What --machine takes: a name, or the folder of a machine that is composed when it is first needed."""
    if not case["made_by"]:
        return case["machine"]
    folder = machines / case["machine"]
    if not folder.exists():
        machines.mkdir(parents=True, exist_ok=True)
        words = case["made_by"].split()[1:-1]
        subprocess.run([args.tessera, *words, str(folder)], check=True, capture_output=True, text=True)
    return str(folder)


def run_limited(command, environment):
    """Output, and what went wrong if it did. A simulation that must be stopped is asked to first, so that it tidies up."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})
    try:
        out, err = process.communicate(timeout=args.limit)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        return "", f"over {args.limit:.0f} s of real time"
    lines = [line for line in err.strip().splitlines() if line.startswith("error")] or err.strip().splitlines() or [""]
    return out, "" if process.returncode == 0 else f"exit {process.returncode}: {lines[0][:200]}"


def simulate(case, policy, order, commit):
    words = ["--cpus", "0", "--", "gemm", "--n", str(case["n"]), "--tile", str(tile), "--json"]
    if case["gpus"]:
        words = ["--gpus", str(case["gpus"]), *words]
    if case["memory"]:
        words += ["--gpu-memory", case["memory"]]
    if order == "plain":
        words.append("--plain")
    shown = case["machine"] if not case["made_by"] else "machines/" + case["machine"]
    row = {**case, "date": datetime.date.today(), "commit": commit, "policy": policy, "order": order,
           "command": " ".join([f"STARPU_SCHED={policy}", "tessera simulate --machine", shown, *words])}
    begin = time.monotonic()
    out, row["note"] = run_limited([args.tessera, "simulate", "--machine", machine_of(case), *words], {"STARPU_SCHED": policy})
    row["real_seconds"] = f"{time.monotonic() - begin:.1f}"
    if not row["note"]:
        result = json.loads(out.strip().splitlines()[-1])
        for key in ("seconds", "gflops", "efficiency", "q", "bound"):
            row[key] = f"{result[key]:.5g}"
        row["bound_kind"] = result["bound_kind"]
        row["shares"] = " ".join(f"{s['share']:.3f}" for s in result["share"])
    return row


def key_of(row):
    return tuple(str(row[k]) for k in ("case", "policy", "order", "commit"))


def read_rows(path):
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def append(path, row):
    new = not path.exists()
    with path.open("a", newline="") as file:
        if new:
            file.write("# simulated products, f32; seconds and gflops are simulated, real_seconds is how long that took\n")
        out = csv.DictWriter(file, columns, lineterminator="\n")
        if new:
            out.writeheader()
        out.writerow(row)


def summary(rows):
    """The last row of each case, policy and order; ours beside the best of StarPU's."""
    last = {}
    for row in rows:
        last.setdefault(row["case"], {})[row["policy"], row["order"]] = row
    efficiency = lambda row: float(row["efficiency"] or 0)
    print(f"{'case':<34} {'E':>6} {'Q':>6}  best stock")
    made_up = {"ours": [], "stock": [], "below": []}
    for name, runs in last.items():
        ours = runs.get(("reuse", "blocked"))
        theirs = max((r for (p, o), r in runs.items() if p in stock and o == "plain"), key=efficiency, default=None)
        text = f"{efficiency(ours):6.3f} {ours['q'] or '-':>6}" if ours else f"{'-':>6} {'-':>6}"
        text += f"  {efficiency(theirs):.3f} {theirs['policy']}" if theirs else ""
        print(f"{name:<34} {text}" + (f"  {ours['note']}" if ours and ours["note"] else ""))
        if name.startswith("random-") and ours:
            made_up["ours"].append(efficiency(ours))
            if theirs:
                made_up["stock"].append(efficiency(theirs))
                made_up["below"] += [name] if efficiency(ours) < efficiency(theirs) else []
    for who in ("ours", "stock"):
        if made_up[who]:
            print(f"random machines, {who}: {len(made_up[who])}, median E {statistics.median(made_up[who]):.3f}, worst {min(made_up[who]):.3f}")
    if made_up["stock"]:
        print("below stock:", *(made_up["below"] or ["none"]))
    for n in (19200, 38400):
        seconds = [last.get(f"sirocco-n{n}-{g}gpus", {}).get(("reuse", "blocked"), {}).get("seconds") for g in (1, 2, 3, 4)]
        if all(seconds):
            print(f"sirocco, n = {n}, speed-up of 1 to 4 GPUs:", *(f"{float(seconds[0]) / float(s):.3f}" for s in seconds))


def main():
    chosen = args.only.split(",")
    if wrong := [g for g in chosen if g not in groups]:
        sys.exit(f"error: no group '{wrong[0]}'; there are {', '.join(groups)}")
    path = pathlib.Path(args.out)
    commit = commit_of_sources()
    done = {key_of(row) for row in read_rows(path)} if not args.again else set()
    for group in chosen if not args.summary else []:
        for case in cases_of(group):
            for policy, order in policies_of(group):
                key = key_of({"case": case["case"], "policy": policy, "order": order, "commit": commit})
                if key in done:
                    continue
                done.add(key)
                row = simulate(case, policy, order, commit)
                append(path, row)
                print(f"{case['case']}, {policy} {order}: " +
                      (row["note"] or f"{row['gflops']} GFLOP/s, E {row['efficiency']}, Q {row['q']}") + f" ({row['real_seconds']} s)", flush=True)
    summary(read_rows(path))


main()
