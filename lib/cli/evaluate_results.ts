import type { Flare22Score } from "../metrics/flare22.ts";
import type { ClassCounts, OverlapSummary } from "../metrics/overlap.ts";
import type { SurfaceScores } from "../metrics/surface.ts";
import type { BorderValue } from "../metrics/surface_geometry.ts";
import type { Pair } from "./evaluate_pairs.ts";

/** How surface distances were asked for. */
export interface SurfaceSettings {
  readonly tolerance: number;
  /** Of distances and tolerance. */
  readonly unit: "mm" | "voxels";
  readonly border: BorderValue;
}

/** One case, each list with an entry per foreground class, or empty where it was not asked for. */
export interface CaseResult {
  readonly pair: Pair;
  readonly counts: readonly ClassCounts[];
  readonly surface: readonly SurfaceScores[];
  readonly flare22: readonly Flare22Score[];
}

/** What `voxgrad evaluate` found. */
export interface Results {
  readonly cases: readonly CaseResult[];
  readonly summary: OverlapSummary;
  readonly classes: number;
  readonly roiMargin: number;
  readonly surface: SurfaceSettings | undefined;
  readonly flare22: boolean;
}
