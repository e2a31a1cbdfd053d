#!/usr/bin/python3
"""The PyTorch peer: an eager, CPU, f32 multi-layer perceptron to measure and compare with.

--bench     time of a training step on random data          --losses  first losses on MNIST, one "step,loss" a line
--accuracy  accuracy on the last tenth of the MNIST files   --record FILE  writes tests/reference/recorded_losses.csv
Weights, sample order and flags are those of tests/reference (random.h, mlp.h, losses_main.cpp).
"""
import argparse
import gzip
import json
import math
import os
import statistics
import subprocess
import sys
import time

# Name and flags of every recorded run, as the reference and the trainer under test take them.
SMALL = "--hidden 64,32 --batch 128"
RECORDED = {
    "sgd_momentum": f"{SMALL} --optimizer sgd --lr 0.1 --momentum 0.9",
    "sgd_nesterov_decay": f"{SMALL} --optimizer sgd --lr 0.1 --momentum 0.9 --nesterov --weight-decay 0.0005",
    "adam": f"{SMALL} --optimizer adam --lr 0.001",
    "adam_decay": f"{SMALL} --optimizer adam --lr 0.001 --weight-decay 0.01",
    "adamw": f"{SMALL} --optimizer adamw --lr 0.001 --weight-decay 0.01",
    "clip": f"{SMALL} --optimizer sgd --lr 0.1 --momentum 0.9 --clip 0.5",
    # the gradients of "clip" stay below 0.5, and the decay of "adamw" moves no loss by more than 2e-5: so both again,
    # in a form that does change the losses
    "clip_hard": f"{SMALL} --optimizer sgd --lr 0.1 --momentum 0.9 --clip 0.1",
    "adamw_strong": f"{SMALL} --optimizer adamw --lr 0.001 --weight-decay 1",
    "label_smoothing": f"{SMALL} --optimizer sgd --lr 0.1 --momentum 0.9 --label-smoothing 0.1",
    "gelu": f"{SMALL} --optimizer sgd --lr 0.1 --momentum 0.9 --activation gelu",
    "tanh": f"{SMALL} --optimizer sgd --lr 0.1 --momentum 0.9 --activation tanh",
    "sigmoid": f"{SMALL} --optimizer adam --lr 0.01 --activation sigmoid",
    "silu": f"{SMALL} --optimizer sgd --lr 0.1 --momentum 0.9 --activation silu",
    "cosine_warmup": f"{SMALL} --optimizer sgd --lr 0.1 --momentum 0.9 --schedule cosine:5",
    # two epochs of five batches, the fifth short; the rate falls tenfold in the second
    "step_short_batch": "--hidden 64,32 --batch 2000 --optimizer sgd --lr 0.1 --momentum 0.9 --schedule step"
                        " --epochs 3",
    "mlp512": "--hidden 512,512 --batch 128 --optimizer adamw --lr 0.001 --weight-decay 0.01",
}


def parser():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = p.add_mutually_exclusive_group(required=True)
    mode.add_argument("--bench", action="store_true")
    mode.add_argument("--losses", action="store_true")
    mode.add_argument("--accuracy", action="store_true")
    mode.add_argument("--record", metavar="FILE")
    p.add_argument("--reference", metavar="PROGRAM", help="built from tests/reference/losses_main.cpp; for --record")
    p.add_argument("--data", metavar="DIR", help="folder with MNIST's IDX files, plain or .gz")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--steps", type=int, help="steps to time or print; default 100 and 10")
    p.add_argument("--validation", type=float, default=0.0, help="the last fraction of the samples, not trained on")
    p.add_argument("--hidden", type=lambda text: [int(width) for width in text.split(",")])
    p.add_argument("--activation", default="relu", choices=["relu", "tanh", "sigmoid", "gelu", "silu"])
    p.add_argument("--optimizer", default="sgd", choices=["sgd", "adam", "adamw"])
    p.add_argument("--lr", type=float, default=0.01)
    p.add_argument("--momentum", type=float, default=0.0)
    p.add_argument("--weight-decay", type=float, default=0.0)
    p.add_argument("--nesterov", action="store_true")
    p.add_argument("--clip", type=float, default=0.0)
    p.add_argument("--label-smoothing", type=float, default=0.0)
    p.add_argument("--schedule", default="constant", help="constant | step | cosine, then :STEPS of warm-up")
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--epochs", type=int, default=1)
    p.add_argument("--seed", type=int, default=1)
    return p


MODES = {  # settings of the modes that stand for one fixed network
    "--bench": "--hidden 1024,1024 --batch 256 --optimizer sgd --lr 0.01 --momentum 0.9",
    "--accuracy": "--hidden 512,512 --batch 128 --optimizer adamw --lr 0.001 --weight-decay 0.01 --epochs 15"
                  " --validation 0.1",
}
given = sys.argv[1:]
options = parser().parse_args([flag for mode in given for flag in MODES.get(mode, "").split()] + given)

# OpenBLAS has threads of its own, which torch.set_num_threads does not reach: fixed here, before it is loaded.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = str(options.threads)
# OpenMP's idle threads would spin on the cores that OpenBLAS's threads need: measured up to 2.5 times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
import numpy as np  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(options.threads)


def mix(z):
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def bits(seed, stream, index):
    """One 64-bit value for each entry of index; numpy arrays wrap around silently, scalars would warn."""
    stream, seed = np.array([stream], np.uint64), np.array([seed], np.uint64)
    return mix(mix(seed ^ mix(stream)) + index)


def uniform(seed, stream, count):
    return (bits(seed, stream, np.arange(count, dtype=np.uint64)) >> np.uint64(40)).astype(np.float64) * 2.0**-24


def permutation(seed, epoch, n):
    index = np.arange(1, n, dtype=np.uint64)
    swaps = bits(seed, 0x5348554646 ^ epoch, index) % (index + np.uint64(1))
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        j = int(swaps[i - 1])
        order[i], order[j] = order[j], order[i]
    return torch.tensor(order)


def read_idx(folder, kind):
    for part in ("train", "t10k"):
        for end, opener in ((".gz", gzip.open), ("", open)):
            path = os.path.join(folder, f"{part}-{kind}-ubyte{end}")
            if os.path.exists(path):
                with opener(path, "rb") as file:
                    content = file.read()
                extents = np.frombuffer(content, ">u4", content[3], 4).astype(int)
                return np.frombuffer(content, np.uint8, -1, 4 + 4 * content[3]).reshape(extents)
    sys.exit(f"error: no train or t10k {kind} file in {folder}")


def mnist(o):
    """Images as pixel / 255, labels, and the number of samples to train on; the rest is held out."""
    if not o.data:
        sys.exit("error: this needs --data DIR")
    images, labels = read_idx(o.data, "images-idx3"), read_idx(o.data, "labels-idx1")
    x = torch.from_numpy(images.reshape(len(images), -1).astype(np.float32) / np.float32(255))
    return x, torch.from_numpy(labels.astype(np.int64)), len(x) - round(len(x) * o.validation)


def network(o, features, classes):
    activations = {"relu": lambda: torch.nn.ReLU(inplace=True), "tanh": torch.nn.Tanh, "sigmoid": torch.nn.Sigmoid,
                   "gelu": torch.nn.GELU, "silu": torch.nn.SiLU}
    widths, layers = [features, *(o.hidden or [64, 32]), classes], []
    for l, (i, out) in enumerate(zip(widths, widths[1:])):
        layer = torch.nn.Linear(i, out)
        for stream, parameter in ((2 * l, layer.weight), (2 * l + 1, layer.bias)):
            start = (2 * uniform(o.seed, stream, parameter.numel()) - 1) * (1 / math.sqrt(i))
            parameter.data = torch.from_numpy(start.astype(np.float32)).reshape(parameter.shape)
        layers += [layer, activations[o.activation]()]
    return torch.nn.Sequential(*layers[:-1])


def optimizer_of(o, model):
    if o.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), lr=o.lr, momentum=o.momentum, nesterov=o.nesterov,
                               weight_decay=o.weight_decay)
    kind = torch.optim.Adam if o.optimizer == "adam" else torch.optim.AdamW
    return kind(model.parameters(), lr=o.lr, weight_decay=o.weight_decay)


def learning_rate(o, step, per_epoch):
    kind, _, warmup = o.schedule.partition(":")
    warmup = int(warmup or 0)
    start = o.lr * (step + 1) / warmup if step < warmup else o.lr
    if kind == "constant":
        return start
    if kind == "step":
        return start * 0.1 ** sum(0 < drop <= step // per_epoch for drop in (o.epochs // 3, 2 * o.epochs // 3))
    if kind != "cosine":
        sys.exit(f"error: unknown schedule {kind}")
    length = o.epochs * per_epoch - warmup
    return start if step < warmup else o.lr * (1 + math.cos(math.pi * min(1, (step - warmup) / length))) / 2


class Training:
    """The ordinary training loop over data that lies in memory; step() returns the loss as a tensor, unread."""

    def __init__(self, o, x, y, n, order):
        self.o, self.x, self.y, self.n, self.order_of_epoch = o, x, y, n, order
        self.model = network(o, x.shape[1], 10)
        self.optimizer = optimizer_of(o, self.model)
        self.criterion = torch.nn.CrossEntropyLoss(label_smoothing=o.label_smoothing)
        self.per_epoch = -(-n // o.batch)
        self.steps = 0

    def step(self):
        epoch, at = divmod(self.steps, self.per_epoch)
        if at == 0:
            self.order = self.order_of_epoch(epoch)
        rows = self.order[at * self.o.batch:(at + 1) * self.o.batch]
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.criterion(self.model(self.x[rows]), self.y[rows])
        loss.backward()
        if self.o.clip > 0:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.o.clip)
        if self.o.schedule != "constant":
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(self.o, self.steps, self.per_epoch)
        self.optimizer.step()
        self.steps += 1
        return loss


def timed_steps(training, count):
    """The time of each of count steps, in milliseconds."""
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        training.step()
        times.append(1e3 * (time.perf_counter() - begin))
    return times


def bench(o):
    n = 10000
    x, y = torch.rand(n, 784), torch.randint(10, (n,))
    training = Training(o, x, y, n, lambda epoch: torch.randperm(n))
    timed_steps(training, 10)
    times = timed_steps(training, o.steps or 100)
    print(json.dumps({"steps_per_s": round(1e3 * len(times) / sum(times), 3),
                      "ms_per_step_median": round(statistics.median(times), 3), "threads": torch.get_num_threads(),
                      "batch": o.batch, "hidden": o.hidden, "torch": torch.__version__}))


def losses(o):
    x, y, n = mnist(o)
    training = Training(o, x, y, n, lambda epoch: permutation(o.seed, epoch, n))
    return [training.step().item() for _ in range(o.steps or 10)]


def accuracy(o):
    x, y, n = mnist(o)
    training = Training(o, x, y, n, lambda epoch: permutation(o.seed, epoch, n))
    times = timed_steps(training, o.epochs * training.per_epoch)
    with torch.no_grad():
        right = (training.model(x[n:]).argmax(1) == y[n:]).sum().item()
    print(json.dumps({"test_accuracy": right / (len(x) - n), "held_out": len(x) - n, "epochs": o.epochs,
                      "steps": len(times), "ms_per_step_median": round(statistics.median(times), 3),
                      "seconds": round(sum(times) / 1e3, 3), "threads": torch.get_num_threads(), "seed": o.seed,
                      "torch": torch.__version__}))


def record(o):
    if not o.reference:
        sys.exit("error: --record needs --reference PROGRAM")
    common = "--validation 0.1 --seed 1"
    rows = []
    for name, flags in RECORDED.items():
        flags = f"--data {o.data} {common} {flags}"
        torch_losses = losses(parser().parse_args(["--losses", *flags.split()]))
        columns = []
        for dtype in ("f64", "f32"):
            run = subprocess.run([o.reference, *flags.split(), "--dtype", dtype], check=True, text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            columns.append([float(line.split(",")[1]) for line in run.stdout.splitlines()])
        f64, f32 = columns
        worst = [max(abs(a - b) / b for a, b in zip(column, f64)) for column in (torch_losses, f32)]
        print(f"{name:20} largest relative deviation from f64: pytorch {worst[0]:.1e}, reference f32 {worst[1]:.1e}",
              file=sys.stderr)
        rows += [f"{name},{step},{f64[step]:.12g},{torch_losses[step]:.9g}" for step in range(len(f64))]
    with open(o.record, "w") as file:
        print(f"# torch {torch.__version__}; MNIST's 10,000 test images, the first 9,000 trained on; written by",
              "# python3 bench/pytorch_mlp.py --record FILE --reference PROGRAM --data DIR",
              f"# every configuration: {common}",
              *(f"# {name}: {flags}" for name, flags in RECORDED.items()), "config,step,reference_f64,pytorch_f32",
              *rows, sep="\n", file=file)


if options.bench:
    bench(options)
elif options.accuracy:
    accuracy(options)
elif options.losses:
    for step, loss in enumerate(losses(options)):
        print(f"{step},{loss:.9g}")
else:
    record(options)
