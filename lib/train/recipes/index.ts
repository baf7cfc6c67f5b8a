import { nearest, UsageError } from "../../errors.ts";
import type { Recipe } from "./recipe.ts";
import { sdnet } from "./sdnet.ts";
import { supervised } from "./supervised.ts";

export type { Recipe, StepContext, StepResult } from "./recipe.ts";
export { sdnet, supervised };

export const recipes: Readonly<Record<string, Recipe>> = { supervised, sdnet };

export function recipeNamed(name: string): Recipe {
  const recipe = recipes[name];
  if (recipe !== undefined) return recipe;
  const known = Object.keys(recipes);
  const hint = nearest(name, known);
  throw new UsageError(
    `no recipe is called "${name}"${hint ? `, did you mean "${hint}"?` : ""}; there are ${known.join(", ")}`,
  );
}
