"""What the PyTorch peers share: Tessera's random numbers, first values and sample order (core/random.h,
graphs/layers.cpp, graphs/trainer.cpp), its flags of training, optimizers and schedules, and the ordinary training loop.
"""
import math
import os
import sys
import time


def load(threads):
    """Imports NumPy and PyTorch, here and for the caller, so that they compute with that many threads."""
    global np, torch
    # OpenBLAS has threads of its own, which torch.set_num_threads does not reach: fixed here, before it is loaded.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(threads)
    # OpenMP's idle threads would spin on the cores that OpenBLAS's threads need: measured up to 2.5 times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import numpy as np
    import torch
    torch.set_num_threads(threads)
    return np, torch


def add_flags(p):
    """The flags that all peers take; those of training mean what they mean to `tessera train`."""
    p.add_argument("--threads", type=int, default=1)
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


def first_uniform(seed, stream, shape, bound):
    """Uniform in +-bound; in f32, whatever the type of the weights, as all first values."""
    values = (2 * uniform(seed, stream, math.prod(shape)) - 1) * bound
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


def first_normal(seed, stream, shape, deviation):
    """Normal by Box and Muller 1958, of whose pairs the first values are used."""
    u = uniform(seed, stream, 2 * math.prod(shape))
    values = deviation * np.sqrt(-2 * np.log(1 - u[::2])) * np.cos(2 * math.pi * u[1::2])
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


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
    """The ordinary training loop over n samples in memory; step() returns the loss as a tensor, unread."""

    def __init__(self, o, model, x, y, n, order_of_epoch):
        self.o, self.model, self.x, self.y, self.order_of_epoch = o, model, x, y, order_of_epoch
        self.optimizer = optimizer_of(o, model)
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
