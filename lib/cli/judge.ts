import { join } from "node:path";
import { type Case, writeLabels } from "../data/index.ts";
import { makeFolder } from "../data/folder.ts";
import { counted } from "../errors.ts";
import { Predictor } from "../infer/predictor.ts";
import { predictVolume } from "../infer/sliding.ts";
import { type Averages, type ClassCounts, evaluateCase, summarize } from "../metrics/overlap.ts";
import { drawCase } from "../report/run_report.ts";
import type { ReportCase } from "../report/html.ts";
import type { Device } from "../runtime/device.ts";
import { loadVolume } from "../train/data.ts";
import { loadRun } from "../train/load.ts";
import type { RunFolder } from "../train/run.ts";

/** How one network of a run, or all of them averaged, did on the test cases. */
export interface NetworkResult extends Averages {
  /** Path of the network, or `both`. */
  readonly network: string;
  /** Mean Dice over the foreground classes, one per test case. */
  readonly dice: readonly number[];
}

/** How a run did on the test cases. */
export interface Judged {
  readonly recipe: string;
  /** Wall time of the training. */
  readonly seconds: number;
  readonly networks: readonly NetworkResult[];
  /** Pictures of the networks' average. */
  readonly cases: readonly ReportCase[];
}

/**
 * Predicts labelled cases with every network of a run and with their average, whose label maps go to `folder`.
 */
export async function judge(
  run: RunFolder,
  cases: readonly Case[],
  device: Device,
  folder: string,
  signal: AbortSignal,
): Promise<Pick<Judged, "networks" | "cases">> {
  const loaded = await loadRun(run, device);
  const { config, recipe } = loaded;
  const teams = [...loaded.networks.map((network) => [network]), loaded.networks];
  const predictors = teams.map((team) => new Predictor(team, device));
  const counts: ClassCounts[][][] = predictors.map(() => []);
  const pictures: ReportCase[] = [];
  await makeFolder(folder);
  try {
    for (const each of cases) {
      const volume = await loadVolume(each, config, () => undefined);
      const { image, size, geometry, label } = volume;
      if (label === undefined) continue;
      for (const [index, predictor] of predictors.entries()) {
        const data = await predictVolume(predictor, image, size, { patch: config.patch, signal });
        counts[index].push(evaluateCase(label, data, size, config.classes));
        if (index < predictors.length - 1) continue;
        await writeLabels(join(folder, `${each.id}.nii.gz`), { size, data, geometry });
        pictures.push(drawCase(volume, data, config, `test, ${recipe}`));
      }
    }
  } finally {
    for (const predictor of predictors) await predictor.dispose();
    loaded.dispose();
  }
  const networks = counts.map((perCase, index) => {
    const { mean } = summarize(perCase).whole;
    const dice = perCase.map((one) => summarize([one]).whole.mean.perCase.dice);
    return { network: loaded.networks[index]?.path ?? "both", ...mean, dice };
  });
  return { networks, cases: pictures };
}

/** Columns of `verdictRows`, for a terminal and for a page alike. */
export const verdictColumns = [
  { header: "recipe" },
  { header: "network" },
  { header: "Dice per case", best: "highest" as const },
  { header: "Dice global", best: "highest" as const },
  { header: "Jaccard" },
  { header: "sensitivity" },
  { header: "specificity" },
  { header: "training", align: "right" as const },
];

/** One row per recipe and network; Jaccard and the others are of the voxels of all cases pooled. */
export function verdictRows(judged: readonly Judged[]): (string | number)[][] {
  return judged.flatMap(({ recipe, seconds, networks }) =>
    networks.map(({ network, perCase, global }) => [
      recipe,
      network,
      perCase.dice,
      global.dice,
      global.jaccard,
      global.sensitivity,
      global.specificity,
      `${seconds.toFixed(0)} s`,
    ]),
  );
}

/** What was measured, in words that claim no more than that. */
export function verdict([first, second]: readonly Judged[]): string {
  const [before, after] = [first, second].map(({ networks }) => networks[networks.length - 1]);
  const difference = after.perCase.dice - before.perCase.dice;
  const better = after.dice.filter((value, index) => value > before.dice[index]).length;
  return (
    `Both networks together: ${second.recipe} minus ${first.recipe} is ${difference >= 0 ? "+" : ""}${difference.toFixed(4)} ` +
    `Dice per case; ${second.recipe} is higher on ${better} of ${counted(after.dice.length, "test case")}. ` +
    `One seed on a handful of phantoms proves nothing about either recipe.`
  );
}
