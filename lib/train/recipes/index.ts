import { nearest, UsageError } from "../../errors.ts";
import type { Recipe } from "./recipe.ts";
import type { Config } from "../config.ts";
import { cps } from "./cps.ts";
import { diceNumber, sdnet } from "./sdnet.ts";
import { supervised } from "./supervised.ts";

export type { Recipe, StepContext, StepResult } from "./recipe.ts";
export { cps, diceNumber, sdnet, supervised };

export const recipes: Readonly<Record<string, Recipe>> = { supervised, sdnet, cps };

export function recipeNamed(name: string): Recipe {
  const recipe = recipes[name];
  if (recipe !== undefined) return recipe;
  const known = Object.keys(recipes);
  const hint = nearest(name, known);
  throw new UsageError(
    `no recipe is called "${name}"${hint ? `, did you mean "${hint}"?` : ""}; there are ${known.join(", ")}`,
  );
}

/** Whether a step takes masks by which unlabelled patches are mixed. */
export function usesMixMask(recipe: Recipe, { cutMixBoxes }: Config): boolean {
  return recipe.mixes === true && cutMixBoxes > 0;
}

/** Throws `UsageError` when a configuration has not the networks or patches that a recipe works with. */
export function checkRecipe(recipe: Recipe, config: Config): void {
  const { networks, unlabeledPerBatch, inputChannels, selector, validationCases } = config;
  if (recipe.networks !== undefined && networks.length !== recipe.networks)
    throw new UsageError(
      `recipe ${recipe.name} trains ${recipe.networks} networks; setting "networks" lists ${networks.length} (${networks.join(", ")})`,
    );
  if (recipe.unlabeled && unlabeledPerBatch < 1)
    throw new UsageError(`recipe ${recipe.name} needs setting "unlabeledPerBatch" to be 1 or more, found 0`);
  if (usesMixMask(recipe, config) && unlabeledPerBatch < 2)
    throw new UsageError(
      `setting "unlabeledPerBatch": CutMix mixes patches of one batch and needs 2 or more, found ${unlabeledPerBatch}; ` +
        `set cutMixBoxes=0 to do without`,
    );
  if (selector === "validation" && validationCases < 1)
    throw new UsageError(
      `setting "selector": "validation" judges by labelled cases that are held back; set validationCases to 1 or more`,
    );
  if (inputChannels !== 1)
    throw new UsageError(
      `setting "inputChannels": cases of a data folder have one channel, found ${inputChannels}`,
    );
}
