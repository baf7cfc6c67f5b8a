import type { Value } from "../../graph/value.ts";
import { argmax, notEqual } from "../../ops/argmax.ts";
import { add, mean, mul } from "../../ops/arithmetic.ts";
import { crossEntropy, oneHot } from "../../ops/loss.ts";
import { slice } from "../../ops/shape.ts";
import type { Config } from "../config.ts";
import { type Recipe, supervise } from "./recipe.ts";

/** What both presets have in common. */
const common: Partial<Config> = {
  networks: ["deeplabv3plus", "deeplabv3plus"],
  dropout: 0,
  flip: [],
  learningRate: 0.02,
  schedule: "warmUpPoly",
  unsupervisedWeight: 0.5,
};

/**
 * Cross pseudo supervision (Chen et al. 2021), with the losses of Dong et al. (FLARE 2022). Two networks that differ in their
 * initial weights see the same batch in one forward pass. Each learns from the labels (eq. 1), and by cross-entropy from
 * what the other one holds to be the class of every voxel (eq. 2), times the weight lambda (eq. 3). The pseudo-labels are
 * hard and no gradient passes through them.
 *
 * `literal` takes the numbers of the FLARE paper. Where it is silent: half of its batch of 96 is labelled, 400 epochs are passes
 * over the about 4800 slices of 50 labelled scans, and a 40th of them warm up.
 */
export const cps: Recipe = {
  name: "cps",
  summary: "cross pseudo supervision: each of two networks learns from the other's hard pseudo-labels",
  unlabeled: true,
  networks: 2,
  presets: {
    recommended: {
      ...common,
      patch: [256, 256, 1],
      labeledPerBatch: 4,
      unlabeledPerBatch: 4,
      decayVectors: false,
      pseudoLabels: "all",
    },
    literal: {
      ...common,
      decoderConvs: 1,
      patch: [512, 512, 1],
      window: [-100, 1000],
      normalize: "zscore",
      labeledPerBatch: 48,
      unlabeledPerBatch: 48,
      steps: 40_000,
      warmUpShare: 0.025,
      momentum: 0.1,
      labelLoss: "crossEntropy",
    },
  },
  step({ networks, image, labels, mode, config, unsupervisedWeight }) {
    const labeled = labels.shape[0];
    const unlabeled = image.shape[0] - labeled;
    const logits = networks.map((network) => network.apply(image, mode));
    const supervision = logits.map((all) =>
      supervise(slice(all, { axis: 0, start: 0, length: labeled }), labels, config),
    );
    const taught =
      config.pseudoLabels === "all"
        ? logits
        : logits.map((all) => slice(all, { axis: 0, start: labeled, length: unlabeled }));
    const pseudoLabels = taught.map((part) => argmax(part));
    const lessons = [crossEntropy(taught[0], pseudoLabels[1]), crossEntropy(taught[1], pseudoLabels[0])];
    const losses = supervision.map(({ loss }, index) => add(loss, mul(lessons[index], unsupervisedWeight)));
    // Labels 0 of the comparison, in the first channel, are voxels that agree.
    const agreement = mean(oneHot(notEqual(pseudoLabels[0], pseudoLabels[1]), { classes: 1 }));
    const metrics: Record<string, Value> = { agreement };
    for (const [index, { path }] of networks.entries()) {
      metrics[`dice.${path}`] = supervision[index].dice;
      metrics[`unsupervised.${path}`] = lessons[index];
    }
    return { losses, metrics };
  },
};
