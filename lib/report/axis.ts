/** A linear or logarithmic axis: where a value lies between 0 and 1, and which values carry a tick. */
export interface Axis {
  /** Position of `value`; not finite where the value cannot be drawn (not finite itself, or not positive on a log axis). */
  readonly position: (value: number) => number;
  readonly ticks: readonly number[];
  readonly format: (tick: number) => string;
}

/** A linear axis over `[from, to]` with about `count` ticks at 1, 2 or 5 times a power of ten. */
export function linearAxis(from: number, to: number, count: number): Axis {
  // A range too narrow to tell its ticks apart in float64 is widened.
  const least = 1e-9 * Math.max(Math.abs(from), Math.abs(to), 1e-290);
  const [low, high] = to - from > least ? [from, to] : [from - least, from + least];
  const span = high - low;
  const step = niceStep(span / Math.max(1, count));
  const ticks: number[] = [];
  // The index is the integer multiple, so that 0.1 + 0.2 never becomes a tick at 0.30000000000000004.
  for (let i = Math.ceil(low / step - 1e-6); i * step <= high + step * 1e-6; i++)
    ticks.push(clean(i * step, step));
  return {
    position: (value) => (Number.isFinite(value) ? (value - low) / span : Number.NaN),
    ticks,
    format: (tick) => formatTick(tick, step, high),
  };
}

/** A base-10 logarithmic axis over `[low, high]`, both positive: decades, with 2 and 5 between when they are few. */
export function logAxis(low: number, high: number): Axis {
  const from = Math.log10(low);
  const span = Math.log10(high) - from;
  const logPosition = (value: number) =>
    value > 0 && Number.isFinite(value) ? (Math.log10(value) - from) / span : Number.NaN;
  const every = Math.max(1, Math.ceil(span / 6));
  const factors = span <= 3 ? [1, 2, 5] : [1];
  const ticks: number[] = [];
  for (let decade = Math.floor(from); decade <= Math.ceil(from + span); decade++) {
    if (decade % every !== 0) continue;
    for (const factor of factors) {
      const tick = Number(`${factor}e${decade}`);
      if (tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9)) ticks.push(tick);
    }
  }
  // Between two neighbouring ticks of that kind (3.1 to 4.8) a linear division says more.
  if (ticks.length < 2) {
    const { ticks: between, format } = linearAxis(low, high, 4);
    return { position: logPosition, ticks: between, format };
  }
  return {
    position: logPosition,
    ticks,
    format: (tick) => formatTick(tick, tick, tick),
  };
}

function niceStep(raw: number): number {
  const power = 10 ** Math.floor(Math.log10(raw));
  const fraction = raw / power;
  // A little tolerance: 3e-5 / 3 is a hair more than 1e-5.
  const nice = [1, 2, 5].find((candidate) => fraction <= candidate * (1 + 1e-9)) ?? 10;
  return nice * power;
}

function clean(value: number, step: number): number {
  // `+ 0` turns -0 into 0.
  return Number((Math.round(value / step) * step).toPrecision(12)) + 0;
}

/** A tick as short as its step allows: `0.25`, `400`, `2e-5`, and `5k` where the axis goes to ten thousands. */
function formatTick(tick: number, step: number, largest: number): string {
  if (tick === 0) return "0";
  const size = Math.abs(tick);
  if (size >= 1e7 || step < 1e-4)
    return String(Number(tick.toPrecision(4)).toExponential()).replace("e+", "e");
  if (Math.abs(largest) >= 1e4 && step >= 100) return `${Number((tick / 1000).toPrecision(6))}k`;
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return tick.toFixed(digits);
}
