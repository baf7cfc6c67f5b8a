"""DeepLabv3+ on ResNet-18 in PyTorch, in float64: what test/oracle/deeplab.test.ts holds voxgrad's against.

    python3 test/oracle/deeplab_torch.py > test/oracle/deeplab_torch.json

Weights, images and labels are hashes of names and indices, so that both sides make them for themselves. Of every gradient
its length and its product with hashed numbers are kept, of logits every STRIDE-th.

Norms shift each channel so far that its ReLU is open everywhere or closed everywhere. A value that rounding moves to the other side
of 0 would change gradients by a hundredth, in float32 here as much as there.
"""
import json
import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)

# So tall that the largest dilation reaches another row of the deepest maps.
BASE, CLASSES, COUNT, HEIGHT, WIDTH, STRIDE = 2, 3, 3, 320, 48, 997


def hashed(name, count):
    """`count` numbers in [-1, 1), as float32 holds them."""
    with np.errstate(over="ignore"):
        seed = np.uint32(2166136261)
        for byte in name.encode():
            seed = np.uint32((int(seed) ^ byte) * 16777619 & 0xFFFFFFFF)
        h = np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B1) + seed
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            h = (h ^ (h >> np.uint32(shift))) * np.uint32(factor)
        h ^= h >> np.uint32(16)
    return (h / 2.0**31 - 1).astype(np.float32).astype(np.float64)


class DeepLab(nn.Module):
    """Modules by the names that voxgrad gives them."""

    def __init__(self, output_stride, aspp, decoder_convs):
        super().__init__()
        self.parts = nn.ModuleDict()
        self.added = aspp == "added"
        width, features, low = 4 * BASE, 16 * BASE, 3 * BASE
        self.conv("stem.conv", 1, width, 7, stride=2)
        self.norm("stem.norm", width)
        # Stage by stage: stride of the first block, dilation of each.
        plan = [(1, 1, 1), (2, 1, 1)]
        plan += [(2, 1, 1), (1, 2, 4)] if output_stride == 16 else [(1, 2, 4), (1, 4, 8)]
        self.stages = []
        inputs = width
        for stage, (stride, *dilations) in enumerate(plan):
            outputs = width * 2**stage
            for block, dilation in enumerate(dilations):
                name = f"stages.{stage}.layers.{block}"
                step = stride if block == 0 else 1
                self.conv(f"{name}.first.conv", inputs, outputs, 3, stride=step, dilation=dilation)
                self.norm(f"{name}.first.norm", outputs)
                self.conv(f"{name}.conv", outputs, outputs, 3, dilation=dilation)
                self.norm(f"{name}.norm", outputs)
                if step != 1 or inputs != outputs:
                    self.conv(f"{name}.shortcut", inputs, outputs, 1, stride=step)
                    self.norm(f"{name}.shortcutNorm", outputs)
                inputs = outputs
        for index, rate in enumerate([0, 6, 12, 18]):
            dilation = max(1, rate * 16 // output_stride)
            self.conv(f"aspp.branches.{index}", inputs, features, 3 if rate else 1, dilation=dilation)
        self.norm("aspp.norm", 4 * features)
        self.conv("aspp.pooledConv", inputs, features, 1)
        self.norm("aspp.pooledNorm", features)
        if self.added:
            self.conv("aspp.pooledProjection", features, features, 1)
        self.conv("aspp.projection", (4 if self.added else 5) * features, features, 1)
        self.norm("aspp.projectionNorm", features)
        self.conv("low.conv", width, low, 1)
        self.norm("low.norm", low)
        self.depth = decoder_convs
        for index in range(decoder_convs):
            self.conv(f"decoder.layers.{index}.conv", features + low if index == 0 else features, features, 3)
            self.norm(f"decoder.layers.{index}.norm", features)
        self.conv("head", features, CLASSES, 1, bias=True)

    def conv(self, name, inputs, outputs, size, stride=1, dilation=1, bias=False):
        padding = dilation * (size - 1) // 2
        self.parts[name.replace(".", "/")] = nn.Conv2d(inputs, outputs, size, stride, padding, dilation, bias=bias)

    def norm(self, name, channels):
        self.parts[name.replace(".", "/")] = nn.BatchNorm2d(channels)

    def named(self):
        """Name in voxgrad, parameter, and the axes of it in voxgrad's order."""
        for path, part in self.parts.items():
            name = path.replace("/", ".")
            if isinstance(part, nn.BatchNorm2d):
                yield f"{name}.gamma", part.weight, (0,)
                yield f"{name}.beta", part.bias, (0,)
            else:
                yield f"{name}.weight", part.weight, (0, 2, 3, 1)
                if part.bias is not None:
                    yield f"{name}.bias", part.bias, (0,)

    def forward(self, x):
        at = lambda name: self.parts[name.replace(".", "/")]
        self.margin = math.inf

        def relu(x, slope=0.0):
            self.margin = min(self.margin, x.abs().min().item())
            return F.leaky_relu(x, slope)

        both = lambda name, x: relu(at(f"{name}.norm")(at(f"{name}.conv")(x)))
        activate = (lambda x: relu(x, 0.01)) if self.added else relu
        deep = F.max_pool2d(both("stem", x), 3, 2, 1)
        for stage in range(4):
            for block in range(2):
                name = f"stages.{stage}.layers.{block}"
                y = at(f"{name}.norm")(at(f"{name}.conv")(both(f"{name}.first", deep)))
                if f"{name}.shortcut".replace(".", "/") in self.parts:
                    deep = at(f"{name}.shortcutNorm")(at(f"{name}.shortcut")(deep))
                deep = relu(y + deep)
            if stage == 0:
                shallow = deep
        joined = torch.cat([at(f"aspp.branches.{index}")(deep) for index in range(4)], 1)
        joined = activate(at("aspp.norm")(joined))
        pooled = F.adaptive_avg_pool2d(deep, 1)
        pooled = activate(at("aspp.pooledNorm")(at("aspp.pooledConv")(pooled)))
        if self.added:
            features = at("aspp.projection")(joined) + at("aspp.pooledProjection")(pooled)
        else:
            features = at("aspp.projection")(torch.cat([joined, pooled.expand(-1, -1, *joined.shape[2:])], 1))
        features = activate(at("aspp.projectionNorm")(features))
        enlarge = lambda x, like: F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=True)
        y = torch.cat([enlarge(features, shallow), both("low", shallow)], 1)
        for index in range(self.depth):
            y = both(f"decoder.layers.{index}", y)
        return enlarge(at("head")(y), x)


def fill(network):
    for name, parameter, axes in network.named():
        values = hashed(name, parameter.numel())
        if name.endswith(".gamma"):
            values = 0.4 * (1 + 0.25 * values)
        elif name.endswith(".beta"):
            values = values + 4
            # Every fourth channel is closed, but where two are added first.
            if not name.startswith("stages.") or ".first." in name:
                values[3::4] -= 8
        elif name.endswith(".weight"):
            values = math.sqrt(6 / parameter[0].numel()) * values
        shape = [parameter.shape[axis] for axis in axes]
        values = torch.from_numpy(values.astype(np.float32).astype(np.float64)).reshape(shape)
        if len(axes) == 4:
            values = values.permute(0, 3, 1, 2)
        parameter.data.copy_(values)


def record(options):
    network = DeepLab(**options)
    fill(network)
    image = torch.from_numpy(hashed("image", COUNT * HEIGHT * WIDTH)).reshape(COUNT, 1, HEIGHT, WIDTH)
    # One brighter than the other, or their means over space would hardly differ.
    image += torch.arange(COUNT).reshape(COUNT, 1, 1, 1)
    labels = torch.arange(COUNT * HEIGHT * WIDTH).reshape(COUNT, HEIGHT, WIDTH) // 5 % CLASSES
    logits = network(image)
    assert network.margin > 0.1, f"a ReLU is {network.margin} from its kink"
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    gradients = {}
    for name, parameter, axes in network.named():
        slope = parameter.grad.permute(axes).reshape(-1).numpy()
        product = float(slope @ hashed(f"{name}.product", slope.size))
        gradients[name] = [float(np.linalg.norm(slope)), product]
    network.eval()
    with torch.no_grad():
        later = network(image)
    keep = lambda y: [float(f"{v:.9g}") for v in y.permute(0, 2, 3, 1).reshape(-1)[::STRIDE].tolist()]
    return {
        "options": {
            "outputStride": options["output_stride"],
            "aspp": options["aspp"],
            "decoderConvs": options["decoder_convs"],
        },
        "loss": loss.item(),
        "training": keep(logits),
        "prediction": keep(later),
        "gradients": {name: [float(f"{v:.9g}") for v in pair] for name, pair in gradients.items()},
    }


forms = [
    {"output_stride": 16, "aspp": "added", "decoder_convs": 2},
    {"output_stride": 8, "aspp": "concatenated", "decoder_convs": 1},
]
print(json.dumps([record(options) for options in forms], separators=(",", ":")))
