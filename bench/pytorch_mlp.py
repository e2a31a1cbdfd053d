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

import tessera_peer
from tessera_peer import Training, first_uniform, permutation, timed_steps

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
    p.add_argument("--steps", type=int, help="steps to time or print; default 100 and 10")
    p.add_argument("--validation", type=float, default=0.0, help="the last fraction of the samples, not trained on")
    p.add_argument("--hidden", type=lambda text: [int(width) for width in text.split(",")])
    p.add_argument("--activation", default="relu", choices=["relu", "tanh", "sigmoid", "gelu", "silu"])
    tessera_peer.add_flags(p)
    return p


MODES = {  # settings of the modes that stand for one fixed network
    "--bench": "--hidden 1024,1024 --batch 256 --optimizer sgd --lr 0.01 --momentum 0.9",
    "--accuracy": "--hidden 512,512 --batch 128 --optimizer adamw --lr 0.001 --weight-decay 0.01 --epochs 15"
                  " --validation 0.1",
}
given = sys.argv[1:]
options = parser().parse_args([flag for mode in given for flag in MODES.get(mode, "").split()] + given)

np, torch = tessera_peer.load(options.threads)


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
            parameter.data = first_uniform(o.seed, stream, parameter.shape, 1 / math.sqrt(i))
        layers += [layer, activations[o.activation]()]
    return torch.nn.Sequential(*layers[:-1])


def bench(o):
    n = 10000
    x, y = torch.rand(n, 784), torch.randint(10, (n,))
    training = Training(o, network(o, x.shape[1], 10), x, y, n, lambda epoch: torch.randperm(n))
    timed_steps(training, 10)
    times = timed_steps(training, o.steps or 100)
    print(json.dumps({"steps_per_s": round(1e3 * len(times) / sum(times), 3),
                      "ms_per_step_median": round(statistics.median(times), 3), "threads": torch.get_num_threads(),
                      "batch": o.batch, "hidden": o.hidden, "torch": torch.__version__}))


def losses(o):
    x, y, n = mnist(o)
    training = Training(o, network(o, x.shape[1], 10), x, y, n, lambda epoch: permutation(o.seed, epoch, n))
    return [training.step().item() for _ in range(o.steps or 10)]


def accuracy(o):
    x, y, n = mnist(o)
    training = Training(o, network(o, x.shape[1], 10), x, y, n, lambda epoch: permutation(o.seed, epoch, n))
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
