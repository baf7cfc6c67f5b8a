/**
 * A network and a loss of one's own: a small dilated stack trained to outline bright balls in noise.
 *   node --import tsx examples/own_network.ts [STEPS]
 */
import {
  add,
  compile,
  Conv3d,
  crossEntropy,
  leakyRelu,
  mean,
  type Mode,
  Module,
  mul,
  nameStates,
  Random,
  Seeds,
  Sgd,
  softmax,
  slice,
  sub,
  type Value,
} from "voxgrad";

/** Three 3x3x3 convolutions at dilation 1, 2 and 4: a wide view without pooling. */
class Dilated extends Module {
  readonly layers: Conv3d[];
  readonly head: Conv3d;

  constructor(channels: number, seeds = new Seeds(0)) {
    super();
    this.layers = [1, 2, 4].map(
      (dilation, index) =>
        new Conv3d(index === 0 ? 1 : channels, channels, { kernel: 3, padding: dilation, dilation, seeds }),
    );
    this.head = new Conv3d(channels, 2, { kernel: 1, seeds });
  }

  forward(x: Value, mode: Mode): Value {
    const features = this.layers.reduce((value, layer) => leakyRelu(layer.apply(value, mode)), x);
    return this.head.apply(features, mode);
  }
}

/** Cross-entropy, and a penalty on the difference between the predicted and the true volume of the foreground. */
function volumeAwareLoss(logits: Value, labels: Value, trueShare: Value): Value {
  const foreground = slice(softmax(logits), { axis: -1, start: 1, length: 1 });
  const miss = sub(mean(foreground), trueShare);
  return add(crossEntropy(logits, labels), mul(miss, miss));
}

const size = 24;
const network = nameStates(new Dilated(8), "dilated");
const optimizer = new Sgd(network, { momentum: 0.9 });
const plan = await compile((g) => {
  const logits = network.apply(g.input("image", [1, size, size, size, 1]), { training: true });
  const loss = volumeAwareLoss(logits, g.input("labels", [1, size, size, size], "u8"), g.input("share", []));
  optimizer.minimize(loss, g.input("rate", []));
  return { loss };
});
console.log(`${network.parameterCount} parameters, ${(plan.peakBytes / 2 ** 20).toFixed(1)} MiB`);

for (let step = 0; step < Number(process.argv[2] ?? 60); step++) {
  const random = new Random(1, step);
  const center = [0, 1, 2].map(() => 8 + random.below(8));
  const labels = new Uint8Array(size ** 3).map((_, i) => {
    const at = [Math.floor(i / size ** 2), Math.floor(i / size) % size, i % size];
    return Math.hypot(...at.map((p, axis) => p - center[axis])) < 6 ? 1 : 0;
  });
  const image = Float32Array.from(labels, (label) => label + 0.5 * random.normal());
  const share = labels.reduce((sum, label) => sum + label, 0) / labels.length;
  const { loss } = await plan.run({ image, labels, share, rate: 0.05 });
  if (step % 10 === 9) console.log(`step ${step + 1}  loss ${loss[0].toFixed(4)}`);
}
