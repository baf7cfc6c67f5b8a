import { flare22Organs, type Flare22Score, summarizeFlare22 } from "../metrics/flare22.ts";
import { summarizeSurface, type SurfaceScores } from "../metrics/surface.ts";
import type { CaseResult, Results } from "./evaluate_results.ts";

/** The results as `voxgrad evaluate --json` prints them. */
export function asJson({ cases, summary, classes, roiMargin, surface, flare22 }: Results): unknown {
  const pooled = (region: "whole" | "roi") => ({
    ...summary[region].mean,
    classes: summary[region].classes.map((averages, k) => ({ class: k + 1, ...averages })),
  });
  return {
    classes,
    roiMargin,
    cases: cases.map((result, i) => ({
      case: result.pair.name,
      ref: result.pair.ref,
      pred: result.pair.pred,
      classes: result.counts.map((entry, k) => ({
        class: entry.class,
        whole: { ...entry.whole, ...summary.whole.cases[i][k] },
        roi: entry.roi && { ...entry.roi, ...summary.roi.cases[i][k] },
        surface: surfaceOf(result.surface[k]),
        flare22: flare22Of(result.flare22[k]),
      })),
    })),
    pooled: { whole: pooled("whole"), roi: pooled("roi") },
    surface: surface && { ...surface, ...surfaceMeans(cases) },
    flare22: flare22 ? flare22Means(cases) : undefined,
  };
}

function surfaceOf(scores: SurfaceScores | undefined): object | undefined {
  return scores && { nsd: scores.nsd, elements: scores.elements, voxels: scores.voxels };
}

function flare22Of(score: Flare22Score | undefined): object | undefined {
  return score && { organ: score.organ, dsc: score.dsc, nsd: score.nsd };
}

function surfaceMeans(cases: readonly CaseResult[]): object {
  const { classes, mean } = summarizeSurface(cases.map(({ surface }) => surface));
  return { classes: classes.map((means, k) => ({ class: k + 1, ...means })), mean };
}

function flare22Means(cases: readonly CaseResult[]): object {
  const { organs, mean } = summarizeFlare22(cases.map(({ flare22 }) => flare22));
  const named = flare22Organs.map(({ name, tolerance }, k) => ({
    class: k + 1,
    organ: name,
    tolerance,
    ...organs[k],
  }));
  return { organs: named, mean };
}
