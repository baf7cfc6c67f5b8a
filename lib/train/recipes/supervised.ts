import { type Recipe, supervise } from "./recipe.ts";

/** Every network by itself on the same labelled crops: cross-entropy + Dice. The control for what learns together. */
export const supervised: Recipe = {
  name: "supervised",
  summary: "labelled cases only, every network by itself (cross-entropy + Dice)",
  unlabeled: false,
  step({ networks, views, labels, mode, config }) {
    const parts = networks.map((network, index) =>
      supervise(network.apply(views[index], mode), labels, config),
    );
    const metrics = Object.fromEntries(
      parts.map(({ dice }, index) => [`dice.${networks[index].path}`, dice]),
    );
    return { losses: parts.map(({ loss }) => loss), metrics };
  },
};
