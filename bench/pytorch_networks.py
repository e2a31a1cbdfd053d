#!/usr/bin/python3
"""The PyTorch peer of the convolutional networks: eager, CPU, images of CIFAR's size and 10 classes.

--bench NETWORK   time of a training step on random data    --losses NETWORK  first losses, one "step,loss" a line
--record FILE     writes tests/reference/recorded_network_losses.csv, in f64 and f32
Networks are those of graphs/networks/, first values those of graphs/layers.cpp, data, sample order, flags and their
defaults those of `tessera train NETWORK --data cifar10:DIR`. Nothing is augmented; there are no auxiliary heads.
"""
import argparse
import json
import math
import os
import statistics
import sys

import tessera_peer
from tessera_peer import Training, bits, first_normal, first_uniform, permutation, timed_steps

NETWORKS = ["resnet20", "resnet18", "googlenet"]
# Flags of every recorded run, named by their networks; other settings are the defaults.
RECORDED = {
    "resnet20": "--batch 16 --optimizer sgd --lr 0.01 --momentum 0.9",
    "resnet18": "--batch 8 --optimizer sgd --lr 0.001 --momentum 0.9",
    "googlenet": "--batch 4 --optimizer sgd --lr 0.001 --momentum 0.9 --dropout 0",
}


def parser():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = p.add_mutually_exclusive_group(required=True)
    mode.add_argument("--bench", metavar="NETWORK", choices=NETWORKS)
    mode.add_argument("--losses", metavar="NETWORK", choices=NETWORKS)
    mode.add_argument("--record", metavar="FILE")
    p.add_argument("--data", metavar="DIR", help="folder with CIFAR-10's data_batch_*.bin, test_batch.bin or both; "
                                                 "default: grey noise, as data/dataset.cpp makes it up")
    p.add_argument("--steps", type=int, default=10, help="to time, after 2 more, or to print")
    p.add_argument("--validation", type=float, help="last fraction of the samples, not trained on; default 0, without"
                                                    " both kinds of files 0.1")
    p.add_argument("--dropout", type=float, help="probability; default: the network's own")
    p.add_argument("--dtype", default="f32", choices=["f32", "f64"])
    p.add_argument("--channels-last", action="store_true", help="images and weights as torch.channels_last")
    tessera_peer.add_flags(p)
    p.set_defaults(lr=None, momentum=0.9, weight_decay=None, batch=None, epochs=5)
    return p


def parsed(arguments):
    o = parser().parse_args(arguments)
    if o.lr is None:
        o.lr = 0.1 if o.optimizer == "sgd" else 0.001
    if o.weight_decay is None:
        o.weight_decay = 0.01 if o.optimizer == "adamw" else 0.0
    if o.batch is None:
        o.batch = 64 if o.bench else 128
    return o


options = parsed(sys.argv[1:])
np, torch = tessera_peer.load(options.threads)
nn, functional = torch.nn, torch.nn.functional


# --- networks; weights stand in the order in which graphs/networks/ declares them ---------------------------------


def conv(inputs, filters, kernel, stride=1):
    """Without bias; keeps the maps' size where the stride is 1."""
    return nn.Conv2d(inputs, filters, kernel, stride, kernel // 2, bias=False)


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut. Where shapes change that is a projection, or without one every second
    pixel, with channels of zeros behind."""

    def __init__(self, inputs, filters, stride, project):
        super().__init__()
        self.stride, self.more = stride, filters - inputs
        self.conv1 = conv(inputs, filters, 3, stride)
        self.bn1 = nn.BatchNorm2d(filters)
        self.downsample = None
        if project and (stride > 1 or inputs != filters):
            self.downsample = nn.Sequential(conv(inputs, filters, 1, stride), nn.BatchNorm2d(filters))
        self.conv2 = conv(filters, filters, 3)
        self.bn2 = nn.BatchNorm2d(filters)

    def shortcut(self, x):
        if self.downsample is not None:
            return self.downsample(x)
        if self.stride > 1:
            x = x[:, :, ::self.stride, ::self.stride]
        return functional.pad(x, (0, 0, 0, 0, 0, self.more)) if self.more else x

    def forward(self, x):
        y = functional.relu_(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += self.shortcut(x)
        return functional.relu_(y)


class ResNet(nn.Module):
    """Stages of equally many blocks, the first with `width` filters, each other with twice as many as that before."""

    def __init__(self, width, stages, blocks, project):
        super().__init__()
        self.conv1 = conv(3, width, 3)
        self.bn1 = nn.BatchNorm2d(width)
        self.stages = []
        inputs = width
        for stage in range(stages):
            layer = nn.Sequential()
            for i in range(blocks):
                layer.append(Residual(inputs, width << stage, 2 if stage > 0 and i == 0 else 1, project))
                inputs = width << stage
            self.add_module(f"layer{stage + 1}", layer)
            self.stages.append(layer)
        self.fc = nn.Linear(inputs, 10)

    def forward(self, x):
        x = functional.relu_(self.bn1(self.conv1(x)))
        for layer in self.stages:
            x = layer(x)
        return self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class ConvNorm(nn.Module):
    def __init__(self, inputs, filters, kernel):
        super().__init__()
        self.conv = conv(inputs, filters, kernel)
        self.bn = nn.BatchNorm2d(filters, eps=1e-3)

    def forward(self, x):
        return functional.relu_(self.bn(self.conv(x)))


class Inception(nn.Module):
    """One row of table 1 of the paper: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5 (here 3x3), pool proj."""

    def __init__(self, inputs, n1, r3, n3, r5, n5, pool):
        super().__init__()
        self.branch1 = ConvNorm(inputs, n1, 1)
        self.branch2 = nn.Sequential(ConvNorm(inputs, r3, 1), ConvNorm(r3, n3, 3))
        self.branch3 = nn.Sequential(ConvNorm(inputs, r5, 1), ConvNorm(r5, n5, 3))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), ConvNorm(inputs, pool, 1))

    def forward(self, x):
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class GoogLeNet(nn.Module):
    """The form for small images; `dropout` None is the paper's."""

    TABLE = {"3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64),
             "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64),
             "4d": (112, 144, 288, 32, 64, 64), "4e": (256, 160, 320, 32, 128, 128),
             "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128)}
    POOLED = {"4a": 3, "5a": 2}  # windows of the pooling before

    def __init__(self, dropout):
        super().__init__()
        inputs = 192
        self.conv1 = ConvNorm(3, inputs, 3)
        self.blocks = []
        for row, (n1, r3, n3, r5, n5, pool) in self.TABLE.items():
            block = Inception(inputs, n1, r3, n3, r5, n5, pool)
            inputs = n1 + n3 + n5 + pool
            self.add_module(f"inception{row}", block)
            if row in self.POOLED:
                self.blocks.append(nn.MaxPool2d(self.POOLED[row], 2, ceil_mode=True))
            self.blocks.append(block)
        self.dropout = nn.Dropout(0.2 if dropout is None else dropout)
        self.fc = nn.Linear(inputs, 10)

    def forward(self, x):
        x = self.conv1(x)
        for block in self.blocks:
            x = block(x)
        return self.fc(self.dropout(functional.adaptive_avg_pool2d(x, 1).flatten(1)))


@torch.no_grad()
def draw_weights(model, seed):
    """First values; every weight, and every running mean and variance, has the next stream of random numbers."""
    stream = 0
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            filters, inputs, height, width = module.weight.shape
            deviation = math.sqrt(2 / (filters * height * width))
            drawn = first_normal(seed, stream, (filters, height, width, inputs), deviation)
            module.weight.copy_(drawn.permute(0, 3, 1, 2))
            stream += 1
        elif isinstance(module, nn.BatchNorm2d):
            stream += 4  # its weights are 1, its biases 0
        elif isinstance(module, nn.Linear):
            for weight in (module.weight, module.bias):
                weight.copy_(first_uniform(seed, stream, weight.shape, 1 / math.sqrt(module.in_features)))
                stream += 1


DTYPES = {"f32": torch.float32, "f64": torch.float64}


def layout(o):
    return {"dtype": DTYPES[o.dtype], "memory_format": torch.channels_last if o.channels_last
            else torch.contiguous_format}


def network(o, name):
    if name == "googlenet":
        model = GoogLeNet(o.dropout)
    else:
        model = ResNet(64, 4, 2, True) if name == "resnet18" else ResNet(16, 3, 3, False)
    model.to(**layout(o))
    draw_weights(model, o.seed)
    return model


# --- data -----------------------------------------------------------------------------------------------------------


def read_records(files):
    records = [np.fromfile(file, np.uint8) for file in files]
    for file, content in zip(files, records):
        if len(content) % 3073 or not len(content):
            sys.exit(f"error: {file} does not hold whole records of CIFAR-10")
    return np.concatenate(records).reshape(-1, 3073)


def training_files(folder):
    """Those that are trained on, as data/cifar.cpp orders them, and whether there is a test set beside them."""
    if not folder or not os.path.isdir(folder):
        sys.exit("error: this needs --data DIR")
    names = [f for f in os.listdir(folder) if f.startswith("data_batch_") and f.endswith(".bin")]
    batches = [os.path.join(folder, f) for f in sorted(names, key=lambda f: (len(f), f))]
    test = [f for f in [os.path.join(folder, "test_batch.bin")] if os.path.exists(f)]
    if not batches and not test:
        sys.exit(f"error: {folder} has neither data_batch_*.bin nor test_batch.bin")
    return batches or test, bool(batches and test)


def cifar(o):
    """Images to train on, [N, 3, 32, 32] and standardised in f32, and labels; the rest is held out."""
    files, has_test = training_files(o.data)
    records = read_records(files)
    held_out = o.validation if o.validation is not None else 0 if has_test else 0.1
    records = records[:len(records) - math.floor(held_out * len(records) + 0.5)]
    one, channels = np.float32(1), lambda *values: np.array(values, np.float32).reshape(3, 1, 1)
    scale = one / channels(0.2470, 0.2435, 0.2616)
    x = (records[:, 1:].reshape(-1, 3, 32, 32).astype(np.float32) / np.float32(255) -
         channels(0.4914, 0.4822, 0.4465)) * scale
    return torch.from_numpy(x).to(**layout(o)), torch.from_numpy(records[:, 0].astype(np.int64))


# --- modes ----------------------------------------------------------------------------------------------------------


def bench(o):
    n = max(1000, o.batch)
    x, y = torch.randn(n, 3, 32, 32).to(**layout(o)), torch.randint(10, (n,))
    model = network(o, o.bench)
    training = Training(o, model, x, y, n, lambda epoch: torch.randperm(n))
    timed_steps(training, 2)
    times = timed_steps(training, o.steps)
    print(json.dumps({"network": o.bench, "parameters": sum(p.numel() for p in model.parameters()),
                      "steps_per_s": round(1e3 * len(times) / sum(times), 3),
                      "ms_per_step_median": round(statistics.median(times), 3), "threads": torch.get_num_threads(),
                      "batch": o.batch, "dtype": o.dtype, "channels_last": o.channels_last,
                      "torch": torch.__version__}))


def made_up(o):
    """As many images as the steps need: bytes are random bits of seed 1, channels last, and labels count up."""
    n = o.steps * o.batch
    pixels = bits(1, 0, np.arange(n * 32 * 32 * 3, dtype=np.uint64)).astype(np.uint8).reshape(n, 32, 32, 3)
    x = (pixels.astype(np.float32) / np.float32(255) - np.float32(0.5)) * np.float32(2)
    return torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).to(**layout(o)), torch.arange(n) % 10


def losses(o):
    x, y = cifar(o) if o.data else made_up(o)
    training = Training(o, network(o, o.losses), x, y, len(x), lambda epoch: permutation(o.seed, epoch, len(x)))
    return [training.step().item() for _ in range(o.steps)]


def record(o):
    rows = []
    for name, flags in RECORDED.items():
        f64, f32 = (losses(parsed(["--losses", name, *flags.split(), "--dtype", dtype])) for dtype in ("f64", "f32"))
        worst = max(abs(a - b) / b for a, b in zip(f32, f64))
        print(f"{name:10} largest relative deviation of f32 from f64: {worst:.1e}", file=sys.stderr)
        rows += [f"{name},{step},{f64[step]:.12g},{f32[step]:.9g}" for step in range(len(f64))]
    with open(o.record, "w") as file:
        print(f"# torch {torch.__version__}, threads {o.threads}; made-up images of CIFAR's shape; written by",
              "# python3 bench/pytorch_networks.py --record FILE", "# every configuration: --seed 1",
              *(f"# {name}: {flags}" for name, flags in RECORDED.items()), "config,step,pytorch_f64,pytorch_f32",
              *rows, sep="\n", file=file)


if options.bench:
    bench(options)
elif options.losses:
    for number, loss in enumerate(losses(options)):
        print(f"{number},{loss:.{9 if options.dtype == 'f32' else 12}g}")
else:
    record(options)
