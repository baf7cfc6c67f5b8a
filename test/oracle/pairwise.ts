/** One value for each factor. */
export type Choice<F extends Record<string, readonly unknown[]>> = { [K in keyof F]: F[K][number] };

/**
 * A short list of choices in which every pair of values of two factors occurs together at least once, where
 * `allowed` permits it at all. Always the same list for the same arguments.
 */
export function pairwise<F extends Record<string, readonly unknown[]>>(
  factors: F,
  allowed: (choice: Choice<F>) => boolean = () => true,
): Choice<F>[] {
  const names = Object.keys(factors) as (keyof F & string)[];
  const sizes = names.map((name) => factors[name].length);
  const key = (a: number, i: number, b: number, j: number) => `${a}.${i}.${b}.${j}`;
  const open = new Set<string>();
  for (let a = 0; a < names.length; a++)
    for (let b = a + 1; b < names.length; b++)
      for (let i = 0; i < sizes[a]; i++) for (let j = 0; j < sizes[b]; j++) open.add(key(a, i, b, j));

  let state = 1;
  const below = (n: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
  const pairsOf = (levels: readonly number[]) =>
    levels.flatMap((i, a) => levels.slice(a + 1).map((j, k) => key(a, i, a + 1 + k, j)));
  const chosen: Choice<F>[] = [];
  while (open.size > 0) {
    // Each try contains the first open pair; what never fits is given up.
    const [a, i, b, j] = [...open][0].split(".").map(Number);
    let best: { choice: Choice<F>; pairs: string[]; gain: number } | undefined;
    for (let attempt = 0; attempt < 200; attempt++) {
      const levels = sizes.map((size, index) => (index === a ? i : index === b ? j : below(size)));
      const choice = Object.fromEntries(
        names.map((name, index) => [name, factors[name][levels[index]]]),
      ) as Choice<F>;
      if (!allowed(choice)) continue;
      const pairs = pairsOf(levels);
      const gain = pairs.filter((pair) => open.has(pair)).length;
      if (best === undefined || gain > best.gain) best = { choice, pairs, gain };
    }
    if (best === undefined) {
      open.delete(key(a, i, b, j));
      continue;
    }
    for (const pair of best.pairs) open.delete(pair);
    chosen.push(best.choice);
  }
  return chosen;
}
