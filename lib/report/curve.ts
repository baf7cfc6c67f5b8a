export type Point = readonly [x: number, y: number];

/** The stretches of consecutive points that can be drawn. */
export function runs(points: readonly Point[]): Point[][] {
  const found: Point[][] = [];
  let open: Point[] = [];
  for (const point of points) {
    if (Number.isFinite(point[1])) {
      if (open.length === 0) found.push(open);
      open.push(point);
    } else {
      open = [];
    }
  }
  return found;
}

/** At most four points for a column of pixels (first, lowest, highest, last), so that no peak is lost. */
export function thin(points: readonly Point[]): Point[] {
  const kept: Point[] = [];
  for (let start = 0; start < points.length; ) {
    const column = Math.floor(points[start][0]);
    let end = start;
    let low = start;
    let high = start;
    for (; end < points.length && Math.floor(points[end][0]) === column; end++) {
      if (points[end][1] < points[low][1]) low = end;
      if (points[end][1] > points[high][1]) high = end;
    }
    for (const i of [...new Set([start, low, high, end - 1])].sort((a, b) => a - b)) kept.push(points[i]);
    start = end;
  }
  return kept;
}

/** Centred moving average over `count` points; at both ends the window is cut off, and gaps stay gaps. */
export function movingAverage(
  points: readonly Point[],
  count: number,
  drawable: (y: number) => boolean,
): Point[] {
  const half = Math.floor(count / 2);
  const sums = [0];
  const counts = [0];
  for (const [i, [, y]] of points.entries()) {
    sums.push(sums[i] + (drawable(y) ? y : 0));
    counts.push(counts[i] + (drawable(y) ? 1 : 0));
  }
  return points.map(([x, y], i): Point => {
    if (!drawable(y)) return [x, Number.NaN];
    const from = Math.max(0, i - half);
    const to = Math.min(points.length, i + half + 1);
    return [x, (sums[to] - sums[from]) / (counts[to] - counts[from])];
  });
}

/** Moves label positions apart to at least `gap` where they collide, within `[low, high]` as long as they fit. */
export function spread(wanted: readonly number[], low: number, high: number, gap: number): number[] {
  const order = wanted.map((_, i) => i).sort((a, b) => wanted[a] - wanted[b] || a - b);
  const placed = [...wanted];
  let previous = low - gap;
  for (const i of order) {
    placed[i] = Math.max(placed[i], previous + gap);
    previous = placed[i];
  }
  let next = Math.max(high, low + (order.length - 1) * gap) + gap;
  for (const i of order.toReversed()) {
    placed[i] = Math.min(placed[i], next - gap);
    next = placed[i];
  }
  return placed;
}
