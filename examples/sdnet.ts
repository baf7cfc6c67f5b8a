/**
 * SD-Net, written out: two networks learn together from few labelled and many unlabelled scans.
 *   node --import tsx examples/sdnet.ts DATA [STEPS]
 * DATA has images/ and labels/; an image without a label is unlabelled. `voxgrad train sdnet` does the same and more.
 */
import * as vg from "voxgrad";

const [folder, steps = "200"] = process.argv.slice(2);
const patch = [32, 32, 32] as const;
const voxels = 32 ** 3;
const networks = [vg.vnet({ baseChannels: 4, seed: 1 }), vg.resvnet({ baseChannels: 4, seed: 2 })];
const optimizers = networks.map((network) => new vg.Sgd(network, { momentum: 0.9, weightDecay: 1e-4 }));

const plan = await vg.compile((g) => {
  const labels = g.input("labels", [2, ...patch], "u8");
  const image = g.input("image", [4, ...patch, 1]);
  const mode = { training: true, key: g.input("key", [2], "i32") };
  const logits = networks.map((network) => network.apply(image, mode));
  const known = logits.map((value) => vg.slice(value, { axis: 0, start: 0, length: 2 }));
  const unknown = logits.map((value) => vg.slice(value, { axis: 0, start: 2, length: 2 }));

  // Labelled half: cross-entropy + Dice, and a second look where the two disagree.
  const mask = vg.notEqual(vg.argmax(known[0]), vg.argmax(known[1]));
  const dices = known.map((value) => vg.dice(vg.softmax(value), labels));
  const review = known.map((value) => vg.maskedMse(vg.softmax(value), labels, { mask, background: false }));

  // Unlabelled half: the better network writes sharpened pseudo-labels for the other one.
  const firstIsBetter = vg.less(dices[0], dices[1]);
  const learn = (k: number) => vg.pseudoLabelError(unknown[k], unknown[1 - k], 0.1);
  const none = vg.constant(g, 0);
  const taught = [vg.select(firstIsBetter, none, learn(0)), vg.select(firstIsBetter, learn(1), none)];

  const [rate, weight] = [g.input("rate", []), g.input("weight", [])];
  const losses = known.map((value, k) => {
    const supervised = vg.add(vg.crossEntropy(value, labels), dices[k]);
    return vg.add(vg.add(supervised, vg.scale(review[k], 0.5)), vg.mul(taught[k], weight));
  });
  for (const [k, optimizer] of optimizers.entries()) optimizer.minimize(losses[k], rate);
  return { vnet: losses[0], resvnet: losses[1] };
});

const { cases } = await vg.openDataset(folder);
const volumes: vg.SampledVolume[] = [];
for (const each of cases) {
  const { image, label } = await vg.loadCase(each, 2);
  const { data } = vg.preprocess(image, { normalize: "zscore" });
  volumes.push({ image: data, label: label?.data, size: image.size });
}
const sampler = (known: boolean) =>
  new vg.PatchSampler(
    volumes.filter(({ label }) => (label !== undefined) === known),
    { patch, seed: 0, stream: Number(known), foreground: known ? 0.5 : 0 },
  );
const [labeled, unlabeled] = [sampler(true), sampler(false)];

for (let step = 0; step < Number(steps); step++) {
  const [image, labels] = [new Float32Array(4 * voxels), new Uint8Array(2 * voxels)];
  labeled.sample(step, 2, image.subarray(0, 2 * voxels), labels);
  unlabeled.sample(step, 2, image.subarray(2 * voxels));
  const rate = vg.polynomial(0.05)(step, Number(steps));
  const weight = 0.1 * vg.rampUp(step, 0.4 * Number(steps));
  const loss = await plan.run({ image, labels, key: Int32Array.of(0, step), rate, weight });
  console.log(`step ${step + 1}  vnet ${loss.vnet[0].toFixed(4)}  resvnet ${loss.resvnet[0].toFixed(4)}`);
}
