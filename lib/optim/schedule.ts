/** Learning rate of a step: `step` of `steps`, from 0. */
export type Schedule = (step: number, steps: number) => number;

/** `base (1 - step / steps)^power` (Chen et al. 2018, "poly"). */
export const polynomial =
  (base: number, power = 0.9): Schedule =>
  (step, steps) =>
    base * (1 - step / steps) ** power;

/**
 * `base step / length` for the first `length` steps, `polynomial` from there: the warm-up of the code published with cross
 * pseudo supervision (Chen et al. 2021). The polynomial counts from the first step, warm-up included.
 */
export const warmUpPolynomial = (base: number, length: number, power = 0.9): Schedule => {
  const decay = polynomial(base, power);
  return (step, steps) => (step < length ? (base * step) / length : decay(step, steps));
};

/** `base` divided by `factor` after every `every` steps. */
export const stepwise =
  (base: number, every: number, factor = 10): Schedule =>
  (step) =>
    base / factor ** Math.floor(step / every);

export const constantRate =
  (base: number): Schedule =>
  () =>
    base;

/** Sigmoid ramp-up `exp(-5 (1 - t)^2)` of a weight, t growing from 0 to 1 over `length` steps (Laine and Aila 2017). */
export function rampUp(step: number, length: number): number {
  if (length <= 0) return 1;
  return Math.exp(-5 * (1 - Math.min(1, step / length)) ** 2);
}
