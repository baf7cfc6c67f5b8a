/**
 * SD-Net, written out: two networks learn together from few labelled and many unlabelled scans.
 *   node --import tsx examples/sdnet.ts DATA [STEPS]
 * DATA has images/ and labels/; an image without a label is unlabelled. `voxgrad train sdnet` does the same and more.
 */
import {
  add, argmax, compile, constant, crossEntropy, dice, type Graph, loadCase, maskedMse, notEqual, openDataset, PatchSampler,
  preprocess, rampUp, resvnet, scale, mul, select, Sgd, less, sharpen, slice, softmax, type Value, vnet,
} from "voxgrad";

const [folder, steps = "200"] = process.argv.slice(2);
const patch = [32, 32, 32] as const;
const networks = [vnet({ baseChannels: 4, seed: 1 }), resvnet({ baseChannels: 4, seed: 2 })];
const optimizers = networks.map((network) => new Sgd(network, { momentum: 0.9, weightDecay: 1e-4 }));

function step(g: Graph) {
  const labels = g.input("labels", [2, ...patch], "u8");
  const mode = { training: true, key: g.input("key", [2], "i32") };
  const image = g.input("image", [4, ...patch, 1]);
  const logits = networks.map((network) => network.apply(image, mode));
  const known = logits.map((value) => slice(value, { axis: 0, start: 0, length: 2 }));
  const unknown = logits.map((value) => slice(value, { axis: 0, start: 2, length: 2 }));

  // Labelled half: cross-entropy + Dice, and a second look where the two disagree.
  const mask = notEqual(argmax(known[0]), argmax(known[1]));
  const dices = known.map((value) => dice(softmax(value), labels));
  const review = known.map((value) => maskedMse(softmax(value), labels, { mask, background: false }));

  // Unlabelled half: the better network writes sharpened pseudo-labels for the other one.
  const firstIsBetter = less(dices[0], dices[1]);
  const learn = (pupil: number) => maskedMse(softmax(unknown[pupil]), sharpen(unknown[1 - pupil], 0.1));
  const none = constant(g, 0);
  const taught = [select(firstIsBetter, none, learn(0)), select(firstIsBetter, learn(1), none)];

  const weight = g.input("weight", []);
  const losses = known.map((value, k): Value => {
    const supervised = add(add(crossEntropy(value, labels), dices[k]), scale(review[k], 0.5));
    return add(supervised, mul(taught[k], weight));
  });
  for (const [k, loss] of losses.entries()) optimizers[k].minimize(loss, g.input(`rate${k}`, []));
  return { vnet: losses[0], resvnet: losses[1] };
}

const { cases } = await openDataset(folder);
const loaded = await Promise.all(cases.map((each) => loadCase(each, 2)));
const volumes = loaded.map(({ image, label }) => ({ image: preprocess(image, { normalize: "zscore" }).data, label: label?.data, size: image.size }));
const some = { patch, seed: 0, foreground: 0.5 };
const labeled = new PatchSampler(volumes.filter(({ label }) => label), { ...some, stream: 0 });
const unlabeled = new PatchSampler(volumes.filter(({ label }) => !label), { ...some, stream: 1, foreground: 0 });
const plan = await compile(step);
for (let t = 0; t < Number(steps); t++) {
  const image = new Float32Array(4 * 32 ** 3);
  const labels = new Uint8Array(2 * 32 ** 3);
  labeled.sample(t, 2, image.subarray(0, 2 * 32 ** 3), labels);
  unlabeled.sample(t, 2, image.subarray(2 * 32 ** 3));
  const rate = 0.05 * (1 - t / Number(steps)) ** 0.9;
  const weight = 0.1 * rampUp(t, 0.4 * Number(steps));
  const loss = await plan.run({ image, labels, key: Int32Array.of(0, t), rate0: rate, rate1: rate, weight });
  console.log(`step ${t + 1}  vnet ${loss.vnet[0].toFixed(4)}  resvnet ${loss.resvnet[0].toFixed(4)}`);
}
