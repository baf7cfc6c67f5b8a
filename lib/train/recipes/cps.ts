import type { Value } from "../../graph/value.ts";
import { argmax, notEqual } from "../../ops/argmax.ts";
import { add, mean, mul } from "../../ops/arithmetic.ts";
import { crossEntropy, oneHot } from "../../ops/loss.ts";
import { mixWithNext } from "../../ops/mix.ts";
import { concat, slice } from "../../ops/shape.ts";
import type { Config } from "../config.ts";
import { type Recipe, supervise } from "./recipe.ts";
import { confident, teach } from "./teacher.ts";

/** What both presets have in common. */
const common: Partial<Config> = {
  networks: ["deeplabv3plus", "deeplabv3plus"],
  orientation: "RAS",
  dropout: 0,
  flip: [],
  learningRate: 0.02,
  schedule: "warmUpPoly",
  unsupervisedWeight: 0.5,
  cutMixBoxes: 3,
};

/**
 * Cross pseudo supervision (Chen et al. 2021), with the losses of Dong et al. (FLARE 2022). Two networks that differ in their
 * initial weights see the same batch in one forward pass. Each learns from the labels (eq. 1), and by cross-entropy from
 * what the other one holds to be the class of every voxel (eq. 2), times the weight lambda (eq. 3). The pseudo-labels are
 * hard and no gradient passes through them. With CutMix (`cutMixBoxes`) the networks learn from unlabelled patches pasted into each
 * other, and the pseudo-labels are those of the whole patches, pasted alike.
 *
 * `literal` takes the numbers of the FLARE paper. Where it is silent: half of its batch of 96 is labelled, 400 epochs are passes
 * over the about 4800 slices of 50 labelled scans, and a 40th of them warm up.
 */
export const cps: Recipe = {
  name: "cps",
  summary: "cross pseudo supervision: each of two networks learns from the other's hard pseudo-labels",
  unlabeled: true,
  networks: 2,
  mixes: true,
  presets: {
    recommended: {
      ...common,
      patch: [256, 256, 1],
      labeledPerBatch: 4,
      unlabeledPerBatch: 4,
      decayVectors: false,
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
  step(context) {
    const { networks, averages, image, views, labels, config, mixMask, unsupervisedWeight } = context;
    const labeled = labels.shape[0];
    const known = (all: Value) => slice(all, { axis: 0, start: 0, length: labeled });
    const unknown = (all: Value) => slice(all, { axis: 0, start: labeled, length: image.shape[0] - labeled });
    const mixed = (view: Value) =>
      mixMask === undefined ? view : concat([known(view), mixWithNext(unknown(view), mixMask)], { axis: 0 });
    const logits = networks.map((network, index) => network.apply(mixed(views[index]), context.mode));
    const supervision = logits.map((all) => supervise(known(all), labels, config));

    const everywhere = config.pseudoLabels === "all";
    const taught = everywhere ? logits : logits.map(unknown);
    /** What a network, or its average, holds the voxels to be that the other one learns from, mixed as those are. */
    const judged = (own: Value, index: number) => {
      if (mixMask === undefined) {
        if (averages === undefined) return everywhere ? own : unknown(own);
        return teach(context, index, everywhere ? image : unknown(image));
      }
      const unmixed = mixWithNext(teach(context, index, unknown(image)), mixMask);
      return everywhere ? concat([known(own), unmixed], { axis: 0 }) : unmixed;
    };
    const teachers = logits.map(judged);
    const pseudoLabels = teachers.map(argmax);
    const lessons = [1, 0].map((teacher, pupil) =>
      crossEntropy(taught[pupil], pseudoLabels[teacher], { mask: confident(teachers[teacher], config) }),
    );
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
