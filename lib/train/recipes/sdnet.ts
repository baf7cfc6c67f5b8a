import type { Value } from "../../graph/value.ts";
import { argmax, notEqual } from "../../ops/argmax.ts";
import { add, mul, scale } from "../../ops/arithmetic.ts";
import { constant } from "../../ops/constant.ts";
import { crossEntropy, maskedMse } from "../../ops/loss.ts";
import { pseudoLabelError } from "../../ops/segmentation.ts";
import { less, select } from "../../ops/select.ts";
import { slice } from "../../ops/shape.ts";
import { sharpen, softmax } from "../../ops/softmax.ts";
import { ema } from "../../ops/update.ts";
import { type Recipe, supervise } from "./recipe.ts";
import { confident, teach } from "./teacher.ts";

/** The number that a selector with a memory keeps of a network: its Dice loss. */
export const diceNumber = (index: number) => `dice${index}`;

/**
 * SD-Net (Huang et al. 2024). Both networks see the same batch in one forward pass.
 *
 * Labelled half: cross-entropy + Dice, and a loss on the voxels where the two predictions differ (eq. 3 to 7).
 * Unlabelled half: the network with the smaller Dice loss on the labelled half writes sharpened probabilities,
 * which the other one is drawn to (eq. 8, Algorithm 1). No gradient passes from one network to the other.
 *
 * `recommended` has the pseudo-labels written by running averages of the networks (Tarvainen and Valpola 2017) and shows each network an
 * image of its own (docs/evidence.md).
 */
export const sdnet: Recipe = {
  name: "sdnet",
  summary: "SD-Net: two networks review where they differ; the better one writes pseudo-labels for the other",
  unlabeled: true,
  networks: 2,
  presets: {
    recommended: { jitter: 0.2, noise: 0.1, unsupervisedWeight: 1, teacherDecay: 0.99 },
  },
  numbers: ({ selector, networks }) =>
    selector === "average" || selector === "validation" ? networks.map((_, index) => diceNumber(index)) : [],
  step(context) {
    const { networks, averages, image, views, labels, config, unsupervisedWeight } = context;
    const { graph } = image;
    const labeled = labels.shape[0];
    const unlabeled = image.shape[0] - labeled;
    const unknownOf = (all: Value) => slice(all, { axis: 0, start: labeled, length: unlabeled });
    const logits = networks.map((network, index) => network.apply(views[index], context.mode));
    const known = logits.map((all) => slice(all, { axis: 0, start: 0, length: labeled }));
    const unknown = logits.map(unknownOf);
    const teachers =
      averages === undefined ? unknown : networks.map((_, index) => teach(context, index, unknownOf(image)));

    const disagreement = notEqual(argmax(known[0]), argmax(known[1]));
    const mask = config.differenceLoss === "mse" ? disagreement : undefined;
    const supervision = known.map((part) => supervise(part, labels, config, mask));
    const review = supervision.map(
      ({ maskedMse }, index) => maskedMse ?? crossEntropy(known[index], labels, { mask: disagreement }),
    );

    const none = constant(graph, 0);
    // The batch's Dice loss, or the mean of its samples' (Algorithm 1, lines 5 to 8), or of the batches so far, or on cases that
    // neither has learnt from; until those have been looked at the batch's.
    const [first, second] = supervision.map(({ dice, diceOfSamples }, index) => {
      if (config.selector === "batch") return dice;
      if (config.selector === "sample") return diceOfSamples;
      const known = context.number(diceNumber(index));
      if (config.selector === "validation") return select(less(none, known), known, dice);
      const next = ema(known, dice, { decay: 0.98 });
      graph.assign(known, next);
      return next;
    });
    // A tie goes to the second network, as in Algorithm 1.
    const firstIsBetter = less(first, second);
    const lesson = (pupil: number, teacher: number) => {
      const mask = confident(teachers[teacher], config);
      if (mask === undefined) return pseudoLabelError(unknown[pupil], teachers[teacher], config.temperature);
      return maskedMse(softmax(unknown[pupil]), sharpen(teachers[teacher], config.temperature), { mask });
    };
    const pseudo = [select(firstIsBetter, none, lesson(0, 1)), select(firstIsBetter, lesson(1, 0), none)];

    const losses = supervision.map(({ loss }, index) => {
      const reviewed = add(loss, scale(review[index], config.differenceWeight));
      return add(reviewed, mul(pseudo[index], unsupervisedWeight));
    });
    const metrics: Record<string, Value> = { firstIsBetter: select(firstIsBetter, constant(graph, 1), none) };
    for (const [index, { path }] of networks.entries()) {
      metrics[`dice.${path}`] = supervision[index].dice;
      metrics[`difference.${path}`] = review[index];
      metrics[`unsupervised.${path}`] = pseudo[index];
    }
    return { losses, metrics };
  },
};
