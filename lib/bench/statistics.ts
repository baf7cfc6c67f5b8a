/** Median and spread of repeated times, in milliseconds. */
export interface Times {
  readonly median: number;
  readonly p10: number;
  readonly p90: number;
  /** How many runs they are of. */
  readonly runs: number;
}

/** The value below which a share of `values` lies, by the nearest rank; NaN of none. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length === 0 ? Number.NaN : sorted[Math.round(share * (sorted.length - 1))];
}

export function timesOf(milliseconds: readonly number[]): Times {
  const [median, p10, p90] = [0.5, 0.1, 0.9].map((share) => quantile(milliseconds, share));
  return { median, p10, p90, runs: milliseconds.length };
}
