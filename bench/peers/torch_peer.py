#!/usr/bin/env python3
"""PyTorch as a peer of `voxgrad bench`: one JSON request a line in, one JSON reply a line out.

bench/README.md describes the protocol. Only the public operators are timed, their changes of layout included.
On the device that VOXGRAD_DEVICE names: cpu, or cuda, there with cuDNN's own search for its fastest kernels, in float32 unless
VOXGRAD_PRECISION is tf32, or bf16: convolutions of bfloat16 then, and steps under autocast.
"""
import argparse
import json
import os
import re
import resource
import statistics
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F


ON_GPU = os.environ.get("VOXGRAD_DEVICE") == "cuda"
PRECISION = os.environ.get("VOXGRAD_PRECISION", "f32")


def finish():
    """Waits for what was launched."""
    if ON_GPU:
        torch.cuda.synchronize()


def peak_bytes():
    """Most memory that this program ever had resident, or that its tensors took of a GPU's."""
    if ON_GPU:
        return torch.cuda.max_memory_allocated()
    try:
        with open("/proc/self/status") as status:
            return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status.read()).group(1))
    except OSError:
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def compilable(calls):
    """Each as it is and, on a GPU, compiled: by name, of functions made when they are first called."""
    if not ON_GPU or not hasattr(torch, "compile"):
        return {name: make(lambda function: function) for name, make in calls.items()}
    return {
        f"{name}{words}": make(transform)
        for name, make in calls.items()
        for words, transform in (("", lambda function: function), (", compiled", torch.compile))
    }


def timed(call, seconds):
    """Milliseconds of the calls that fit into `seconds`, at least 3, after one or two that do not count."""
    began = time.perf_counter()
    call()
    finish()
    first = time.perf_counter() - began
    runs = max(3, min(500, round(seconds / max(first, 1e-6))))
    if first < 0.1:
        call()
        finish()
    times = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or (len(times) < runs and time.perf_counter() < end):
        began = time.perf_counter()
        result = call()
        finish()
        times.append(1e3 * (time.perf_counter() - began))
        del result
    return times


# --- convolutions ---------------------------------------------------------------------------------------------------


def conv_calls(shape, which):
    """The pass as a function without arguments, by memory layout."""
    flat = shape["input"][1] == 1 and shape["kernel"][0] == 1
    calls = {}
    for dims in (3, 2) if flat else (3,):
        last = torch.channels_last_3d if dims == 3 else torch.channels_last
        for layout, form in (("contiguous", torch.contiguous_format), ("channels-last", last)):
            calls[f"{dims}-D {layout}"] = conv_call(shape, which, dims, form)
    return calls


def conv_call(shape, which, dims, form):
    def cut(numbers):
        return list(numbers)[-dims:]

    dtype = torch.bfloat16 if PRECISION == "bf16" else torch.float32

    def tensor(extents, scale=1.0):
        return torch.rand(extents).sub_(0.5).mul_(scale).to(dtype).contiguous(memory_format=form)

    transposed, groups = shape["transposed"], shape["groups"]
    samples, channels, outputs = shape["input"][0], shape["input"][4], shape["output"][4]
    stride, padding, dilation = (cut(shape[key]) for key in ("stride", "padding", "dilation"))
    x = tensor([samples, channels, *cut(shape["input"][1:4])])
    dy = tensor([samples, outputs, *cut(shape["output"][1:4])])
    order = [channels, outputs // groups] if transposed else [outputs, channels // groups]
    w = tensor([*order, *cut(shape["kernel"])], 0.1)
    if which == "forward":
        operator = {
            (2, False): F.conv2d,
            (3, False): F.conv3d,
            (2, True): F.conv_transpose2d,
            (3, True): F.conv_transpose3d,
        }[dims, transposed]
        return lambda: operator(x, w, None, stride=stride, padding=padding, dilation=dilation, groups=groups)
    mask = [which == "input gradient", which == "weight gradient", False]
    backward = torch.ops.aten.convolution_backward
    return lambda: backward(dy, x, w, None, stride, padding, dilation, transposed, [0] * dims, groups, mask)


# --- convolutions side by side --------------------------------------------------------------------------------------


def aspp_calls(shape, which):
    """All branches of one input, their results joined, or their input gradients summed: by memory layout."""
    return {
        f"2-D {layout}": aspp_call(shape, which, form)
        for layout, form in (("contiguous", torch.contiguous_format), ("channels-last", torch.channels_last))
    }


def aspp_call(shape, which, form):
    def tensor(extents, scale=1.0):
        return torch.rand(extents).sub_(0.5).mul_(scale).contiguous(memory_format=form)

    samples, depth, height, width, channels = shape["input"]
    joined, branches = shape["output"][4], shape["branches"]
    x = tensor([samples * depth, channels, height, width])
    dy = tensor([samples * depth, joined, height, width])
    outputs = joined // len(branches)
    weights = [tensor([outputs, channels, *branch["kernel"][1:]], 0.1) for branch in branches]
    windows = [(branch["padding"][1:], branch["dilation"][1:]) for branch in branches]

    def forward():
        return torch.cat([F.conv2d(x, w, None, 1, *window) for w, window in zip(weights, windows)], 1)

    if which == "forward":
        return forward
    index = 0 if which == "input gradient" else 1
    mask = [index == 0, index == 1, False]

    def backward():
        parts = [
            torch.ops.aten.convolution_backward(slope, x, w, None, [1, 1], *window, False, [0, 0], 1, mask)[index]
            for slope, w, window in zip(dy.split(outputs, 1), weights, windows)
        ]
        return sum(parts[1:], parts[0]) if index == 0 else parts

    return backward


# --- losses ---------------------------------------------------------------------------------------------------------


def dice_by_class(probabilities, labels):
    """Mean over the foreground classes, one after another, as training scripts usually write it."""
    classes = probabilities.shape[1]
    total = 0.0
    for index in range(1, classes):
        target = (labels == index).float()
        p = probabilities[:, index]
        total = total + 1 - (2 * (p * target).sum() + 1e-5) / ((p * p).sum() + target.sum() + 1e-5)
    return total / (classes - 1)


def dice_at_once(probabilities, labels):
    """The same without a loop over classes."""
    target = torch.zeros_like(probabilities).scatter_(1, labels[:, None], 1.0)
    axes = (0, 2, 3, 4)
    overlap = (probabilities * target).sum(axes)
    size = (probabilities * probabilities).sum(axes) + target.sum(axes)
    return (1 - (2 * overlap + 1e-5) / (size + 1e-5))[1:].mean()


def supervise(logits, labels, dice):
    return F.cross_entropy(logits, labels) + dice(torch.softmax(logits, 1), labels)


def loss_calls(request):
    batch, size, classes = request["batch"], request["size"], request["classes"]
    logits = torch.rand(batch, classes, *size).sub_(0.5).requires_grad_()
    labels = torch.randint(0, classes, (batch, *size))

    def caller(dice):
        def make(transform):
            loss = transform(lambda x: supervise(x, labels, dice))

            def both():
                logits.grad = None
                loss(logits).backward()

            return both

        return make

    return compilable({"class by class": caller(dice_by_class), "at once": caller(dice_at_once)})


# --- training steps -------------------------------------------------------------------------------------------------


def conv_norm_relu(conv):
    return [conv, nn.BatchNorm3d(conv.out_channels), nn.ReLU(inplace=True)]


def block(count, inputs, outputs):
    layers = []
    for index in range(count):
        layers += conv_norm_relu(nn.Conv3d(outputs if index else inputs, outputs, 3, padding=1))
    return nn.Sequential(*layers)


class VNet(nn.Module):
    """The network of lib/models/vnet.ts."""

    def __init__(self, classes, base, dropout):
        super().__init__()
        channels = [base << level for level in range(5)]
        self.blocks = nn.ModuleList(
            block(count, channels[level] if level else 1, channels[level])
            for level, count in enumerate((1, 2, 3, 3, 3))
        )
        self.downs = nn.ModuleList(
            nn.Sequential(*conv_norm_relu(nn.Conv3d(channels[i], channels[i + 1], 2, stride=2))) for i in range(4)
        )
        self.ups = nn.ModuleList(
            nn.Sequential(*conv_norm_relu(nn.ConvTranspose3d(channels[i + 1], channels[i], 2, stride=2)))
            for i in (3, 2, 1, 0)
        )
        self.refine = nn.ModuleList(
            block(count, channels[3 - i], channels[3 - i]) for i, count in enumerate((3, 3, 2, 1))
        )
        self.dropout = nn.Dropout3d(dropout) if dropout > 0 else nn.Identity()
        self.head = nn.Conv3d(base, classes, 1)

    def forward(self, x):
        maps = []
        for level, stage in enumerate(self.blocks):
            x = stage(self.downs[level - 1](x) if level else x)
            maps.append(x)
        x = self.dropout(x)
        for index, (up, refine) in enumerate(zip(self.ups, self.refine)):
            x = refine(up(x) + maps[3 - index])
        return self.head(self.dropout(x))


def step_calls(request):
    classes = request["classes"]
    extents = [request["labeled"], *reversed(request["patch"])]
    labels = torch.randint(0, classes, extents)

    def caller(form):
        def make(transform):
            net = VNet(classes, request["baseChannels"], request["dropout"]).train().to(memory_format=form)
            image = torch.rand(extents[0], 1, *extents[1:]).contiguous(memory_format=form)
            optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)

            def forward():
                with torch.autocast(image.device.type, torch.bfloat16, enabled=PRECISION == "bf16"):
                    logits = net(image)
                return supervise(logits.float(), labels, dice_at_once)

            loss_of = transform(forward)

            def call():
                loss = loss_of()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                return loss.item()

            return call

        return make

    contiguous = {"contiguous": caller(torch.contiguous_format)}
    if request["mode"] == "memory":
        return {name: make(lambda function: function) for name, make in contiguous.items()}
    return compilable({**contiguous, "channels-last": caller(torch.channels_last_3d)})


# --- requests -------------------------------------------------------------------------------------------------------


def prepare(request):
    """Functions to time by variant, and whether they run without a record of gradients."""
    mode = request["mode"]
    if mode == "conv":
        return conv_calls(request["shape"], request["pass"]), True
    if mode == "aspp":
        return aspp_calls(request["shape"], request["pass"]), True
    if mode == "loss":
        return loss_calls(request), False
    if mode in ("step", "memory"):
        if request["recipe"] != "supervised" or request["networks"] != ["vnet"]:
            return None, False
        return step_calls(request), False
    return None, False


class Server:
    def __init__(self):
        self.key = None
        self.calls = None
        self.plain = False
        self.idle = peak_bytes()

    def answer(self, request):
        seconds = request.pop("seconds")
        key = json.dumps(request, sort_keys=True)
        if key != self.key:
            self.key = self.calls = None
            self.calls, self.plain = prepare(request)
            self.key = key
        if self.calls is None:
            return {"unsupported": "not written for this peer"}
        times = {}
        with torch.set_grad_enabled(not self.plain):
            for variant, call in self.calls.items():
                try:
                    times[variant] = timed(call, seconds / len(self.calls))
                except Exception as error:  # pylint: disable=broad-except
                    # What one variant cannot do another may.
                    failed = error
        if not times:
            raise failed
        # From the second turn on only what has a chance to be the best one is timed.
        best = min(statistics.median(each) for each in times.values())
        self.calls = {name: self.calls[name] for name in times if statistics.median(times[name]) < 1.5 * best}
        return {"times": times, "memory": {"idle": self.idle, "peak": peak_bytes()}}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, required=True)
    threads = parser.parse_args().threads
    torch.set_num_threads(threads)
    if ON_GPU:
        torch.set_default_device("cuda")
        torch.backends.cudnn.benchmark = True
        tf32 = PRECISION == "tf32"
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.manual_seed(0)
    # Libraries may print: the reply has a channel of its own.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(message):
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    say({"name": "PyTorch", "version": torch.__version__, "threads": torch.get_num_threads()})
    server = Server()
    for line in sys.stdin:
        try:
            say(server.answer(json.loads(line)))
        except Exception as error:  # pylint: disable=broad-except
            say({"error": f"{type(error).__name__}: {error}".split("\n")[0]})


main()
