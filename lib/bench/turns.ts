import { setTimeout as sleep } from "node:timers/promises";
import { quantile, type Times, timesOf } from "./statistics.ts";

/** Someone who can do the work in question. */
export interface Contender {
  readonly name: string;
  /** Milliseconds of runs during about `seconds`, by variant: several ways to do it may compete. Warm-up runs are left out. */
  time(seconds: number): Promise<Readonly<Record<string, readonly number[]>>>;
}

/** How a contender did: its best variant, with the medians of all, or why it could not take part. */
export type Score =
  | { readonly variant: string; readonly times: Times; readonly medians: Readonly<Record<string, number>> }
  | { readonly failure: string };

export const ROUNDS = 3;
/** Threads of another runtime may spin for a while after their turn. */
const PAUSE_MS = 30;

/**
 * Lets contenders work in turns, `ROUNDS` rounds, so that a change in the machine's pace meets all alike; `seconds` is
 * for each contender in all. The variant with the smallest median over all rounds counts. Whoever throws is out; an abort
 * of `signal` is thrown on.
 */
export async function takeTurns(
  contenders: readonly Contender[],
  seconds: number,
  signal: AbortSignal,
): Promise<Score[]> {
  const variants = contenders.map(() => new Map<string, number[]>());
  const failures = contenders.map((): string | undefined => undefined);
  for (let round = 0; round < ROUNDS; round++) {
    for (const [index, contender] of contenders.entries()) {
      if (failures[index] !== undefined) continue;
      signal.throwIfAborted();
      try {
        for (const [variant, times] of Object.entries(await contender.time(seconds / ROUNDS)))
          variants[index].set(variant, [...(variants[index].get(variant) ?? []), ...times]);
      } catch (error) {
        signal.throwIfAborted();
        failures[index] = (error as Error).message;
      }
      if (contenders.length > 1) await sleep(PAUSE_MS);
    }
  }
  return contenders.map((_, index): Score => {
    const failure = failures[index];
    if (failure !== undefined) return { failure };
    const ranked = [...variants[index]]
      .map(([variant, times]) => ({ variant, times, median: quantile(times, 0.5) }))
      .sort((a, b) => a.median - b.median);
    if (ranked.length === 0) return { failure: "no times came back" };
    const medians = Object.fromEntries(ranked.map(({ variant, median }) => [variant, median]));
    return { variant: ranked[0].variant, times: timesOf(ranked[0].times), medians };
  });
}

/**
 * A contender from a function that times `runs` runs. It makes as many as fit into its turn, 3 to 500, and leaves the
 * first of each turn out: it meets the caches as whoever was before left them.
 */
export function repeated(name: string, time: (runs: number) => Promise<readonly number[]>): Contender {
  let estimate: number | undefined;
  return {
    name,
    async time(seconds) {
      estimate ??= quantile(await time(2), 0);
      const runs = Math.min(500, Math.max(3, Math.ceil((1000 * seconds) / Math.max(estimate, 1e-3))));
      const times = (await time(runs + 1)).slice(1);
      estimate = quantile(times, 0.5);
      return { "": times };
    },
  };
}
