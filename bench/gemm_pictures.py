#!/usr/bin/env python3
"""Pictures of docs/gemm.md out of bench/results/gemm_machines.csv: rates over n beside published ones, efficiency over the
memory limit, and (with --gantt, which simulates) the tasks of the mixed machine.
usage: bench/gemm_pictures.py [--gantt] [--results CSV] [--out docs/pictures]
"""
import argparse, csv, math, os, pathlib, subprocess, sys
from xml.sax.saxutils import escape

root = pathlib.Path(__file__).resolve().parent.parent
parser = argparse.ArgumentParser()
parser.add_argument("--gantt", action="store_true", help="simulate the mixed machine for its picture, too")
parser.add_argument("--results", default=str(root / "bench" / "results" / "gemm_machines.csv"))
parser.add_argument("--tessera", default=str(root / "build" / "tessera"))
parser.add_argument("--out", default=str(root / "docs" / "pictures"))
args = parser.parse_args()

# As apps/svg.h: Okabe and Ito.
blue, vermilion, green, pink, orange, sky, black = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"
ink, pale, grid = "#333333", "#666666", "#e4e4e4"
font = 17  # readable at half the width

# DGEMM GFLOP/s on 1, 2, 3 equal GPUs of about 1.2 TFLOP/s each, host data: the data files of BLASX (arXiv 1510.05041;
# arXiv 1511.04348 builds on it).
published_gflops_per_gpu = 1200
published = {
    "BLASX": {1024: (363, 373, 372), 4096: (1162, 1568, 2512), 16384: (1153, 2370, 3429), 39936: (1173, 2387, 3571)},
    "cuBLAS-XT": {1024: (295, 243, 200), 4096: (949, 1477, 1597), 16384: (945, 1882, 2724), 39936: (982, 1920, 2964)},
    "PaRSEC": {1024: (345, 345, 342), 4096: (1127, 1936, 2138), 16384: (1203, 2381, 3187)},
}


class Picture:
    def __init__(self, width, height):
        self.width, self.height, self.parts = width, height, []

    def text(self, x, y, text, anchor="start", color=ink, size=font, more=""):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}" font-size="{size}"{more}>{escape(text)}</text>')

    def path(self, points, color, width=1.0, more=""):
        way = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self.parts.append(f'<path d="{way}" stroke="{color}" stroke-width="{width}" fill="none" stroke-linejoin="round"{more}/>')

    def dot(self, x, y, color):
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{color}"/>')

    def write(self, path):
        head = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{self.height}" viewBox="0 0 {self.width} '
                f'{self.height}" font-family="Helvetica, Arial, \'DejaVu Sans\', sans-serif">\n<rect width="100%" height="100%" fill="white"/>\n')
        new = path.with_suffix(".svg.new")
        new.write_text(head + "\n".join(self.parts) + "\n</svg>\n")
        new.replace(path)
        print(path)


class Axes:
    """A frame with a logarithmic x axis and a linear y axis from 0 to `top`."""

    def __init__(self, picture, left, right, upper, lower, x_range, top):
        self.picture, self.left, self.right, self.upper, self.lower, self.x_range, self.top = picture, left, right, upper, lower, x_range, top

    def x(self, value):
        low, high = (math.log(v) for v in self.x_range)
        return self.left + (math.log(value) - low) / (high - low) * (self.right - self.left)

    def y(self, value):
        return self.lower - value / self.top * (self.lower - self.upper)

    def frame(self, x_ticks, y_ticks, y_labels=True):
        p = self.picture
        for value, label in y_ticks:
            p.path([(self.left, self.y(value)), (self.right, self.y(value))], grid)
            if y_labels:
                p.text(self.left - 8, self.y(value) + 5, label, "end")
        p.path([(self.left, self.lower), (self.right, self.lower)], pale)
        for value, label in x_ticks:
            p.path([(self.x(value), self.lower), (self.x(value), self.lower + 5)], pale)
            p.text(self.x(value), self.lower + 22, label, "middle", size=font - 3)

    def line(self, points, color, width=2.0, more=""):
        at = [(self.x(x), self.y(y)) for x, y in points]
        self.picture.path(at, color, width, more)
        for x, y in at:
            self.picture.dot(x, y, color)


def place_labels(labels, lowest, pitch=font + 2):
    """Moves (y, ...) apart, keeping their order, none below `lowest`."""
    labels = sorted(labels)
    for _ in range(200):
        for i in range(len(labels) - 1):
            gap = pitch - (labels[i + 1][0] - labels[i][0])
            if gap > 0.01:
                labels[i] = (labels[i][0] - gap / 2, *labels[i][1:])
                labels[i + 1] = (labels[i + 1][0] + gap / 2, *labels[i + 1][1:])
        if labels and labels[-1][0] > lowest:
            labels[-1] = (lowest, *labels[-1][1:])
    return labels


def read_results():
    """The last row of each case, policy and order."""
    last = {}
    with open(args.results, newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            last[row["case"], row["policy"], row["order"]] = row
    return last


def our_rates(rows):
    """{GPUs: [(n, GFLOP/s)]} of sirocco, and the GFLOP/s of one GPU's tasks. Where work binds, the bound says that."""
    runs = [r for (case, policy, order), r in rows.items() if r["machine"] == "sirocco" and r["gpus"] and not r["memory"]
            and policy == "reuse" and order == "blocked" and r["seconds"]]
    alone = next(2e-9 * int(r["n"]) ** 3 / float(r["bound"]) for r in runs if r["gpus"] == "1" and r["n"] == "19200")
    curves = {}
    for r in runs:
        curves.setdefault(int(r["gpus"]), []).append((int(r["n"]), float(r["gflops"])))
    return {g: sorted(points) for g, points in curves.items()}, alone


def rates(rows):
    """Two frames of one height: four GPUs' rates, so that equal shares of the rates are equally high in both."""
    p = Picture(1120, 560)
    p.text(74, 28, "Products of n x n matrices in host memory, GFLOP/s over n", size=font + 1, more=' font-weight="bold"')
    ours, alone = our_rates(rows)
    ticks = [(1000, "1k"), (2000, "2k"), (4000, "4k"), (8000, "8k"), (16000, "16k"), (40000, "40k")]
    share = 4.25  # of one GPU's rate, the top of both

    def frame(left, right, title, subtitle, per_gpu, step):
        p.text(left, 60, title, more=' font-weight="bold"')
        p.text(left, 82, subtitle, color=pale, size=font - 2)
        axes = Axes(p, left, right, 104, 480, (900, 44000), share * per_gpu)
        axes.frame(ticks, [(v, f"{v:,}") for v in range(0, int(share * per_gpu) + 1, step)])
        p.text((left + right) / 2, 530, "n", "middle")
        return axes

    def gpus(g):
        return f"{g} GPU" + ("s" if g > 1 else "")

    axes = frame(74, 470, "Tessera, simulated", f"sirocco: K40m, f32; tasks of one GPU: {alone:,.0f} GFLOP/s", alone, 2000)
    for g, points in ours.items():
        axes.line(points, blue, 2.5)
        n, last = points[-1]
        p.text(axes.x(n) + 10, axes.y(last) + 6, f"{gpus(g)}: {last:,.0f}", color=blue)
    axes = frame(690, 1010, "Published, measured", "1, 2, 3 GPUs, f64; one GPU: 1,200 GFLOP/s", published_gflops_per_gpu, 1000)
    colors = {"BLASX": vermilion, "cuBLAS-XT": orange, "PaRSEC": green}
    labels = []
    for name, table in published.items():
        for g in (1, 2, 3):
            points = [(n, v[g - 1]) for n, v in table.items()]
            axes.line(points, colors[name])
            if g == 3:
                labels.append((axes.y(points[-1][1]), axes.x(points[-1][0]), name, colors[name]))
    for y, x, name, color in place_labels(labels, axes.lower):
        p.text(x + 10, y + 6, name, color=color)
    for g in (1, 2, 3):
        p.text(axes.x(44000) + 6, axes.y(max(t[max(t)][g - 1] for t in published.values())) + (26 if g == 3 else 6), "" if g == 3 else gpus(g), color=pale)
    p.write(pathlib.Path(args.out) / "gemm-rates.svg")


def memory(rows):
    limits = {"150M": 150, "200M": 200, "250M": 250, "350M": 350, "500M": 500, "1G": 1024, "2G": 2048, "": 4096}
    lines = {("reuse", "blocked"): ("reuse, blocks", blue, ""), ("dmdas", "blocked"): ("dmdas, blocks", sky, ""),
             ("reuse", "plain"): ("reuse", blue, ' stroke-dasharray="7 4"'), ("dmdas", "plain"): ("dmdas", vermilion, ""),
             ("dmdar", "plain"): ("dmdar", pink, ' stroke-dasharray="2 5"'), ("dmda", "plain"): ("dmda", orange, ""),
             ("lws", "plain"): ("lws", green, ""), ("eager", "plain"): ("eager", black, "")}
    p = Picture(900, 540)
    p.text(70, 26, "Efficiency over the memory limit: sirocco, 4 GPUs, n = 19200, f32", size=font + 1, more=' font-weight="bold"')
    p.text(70, 50, 'simulated; lines without "blocks" submit tasks in plain i, j, k order', color=pale, size=font - 2)
    axes = Axes(p, 70, 720, 70, 470, (140, 4400), 1.0)
    axes.frame([(v, k or "none") for k, v in limits.items()], [(v / 5, f"{v / 5:.1f}") for v in range(6)])
    p.text(395, 522, "memory of each GPU that may be used, bytes (binary units)", "middle")
    p.parts.append(f'<text transform="translate(20 270) rotate(-90)" text-anchor="middle" fill="{ink}" font-size="{font}">E = bound / time</text>')
    labels = []
    for (policy, order), (label, color, dash) in lines.items():
        points = [(v, float(r["efficiency"])) for k, v in limits.items()
                  if (r := rows.get((f"sirocco-n19200-{k}" if k else "sirocco-n19200", policy, order))) and r["efficiency"]]
        if points:
            axes.line(points, color, 3 if (policy, order) == ("reuse", "blocked") else 2, dash)
            end = axes.y(points[-1][1])
            labels.append((end, axes.x(points[-1][0]), label, color, end))
    for y, x, label, color, end in place_labels(labels, axes.lower):
        p.path([(x + 6, end), (x + 22, y)], color)
        p.text(x + 26, y + 5, label, color=color)
    p.write(pathlib.Path(args.out) / "gemm-memory.svg")


def gantt():
    path = pathlib.Path(args.out) / "gantt-gemm-mixed.svg"
    command = [args.tessera, "simulate", "--machine", "mixed-k40m-m2070", "--cpus", "0", "--", "gemm", "--n", "9600", "--tile", "960",
               "--gpu-memory", "128M", "--gantt", str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "STARPU_SCHED": "reuse"})
    print(path)


results = read_results()
if not any(r["gpus"] for r in results.values()):
    sys.exit("error: no rates over n in " + args.results + ": run bench/gemm_machines.py --only sizes,speedup")
rates(results)
memory(results)
if args.gantt:
    gantt()
