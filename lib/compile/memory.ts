/** A piece of arena memory, needed from step `first` to step `last`, both included. */
export interface Interval {
  readonly bytes: number;
  readonly first: number;
  readonly last: number;
}

export interface Layout {
  /** Byte offset of each interval, in the order given. */
  readonly offsets: number[];
  /** Bytes of arena that hold them all. */
  readonly bytes: number;
}

const alignment = 256;

/**
 * Gives every interval an offset so that no two that live at the same time overlap: largest first, each at the
 * lowest place that is free for its whole life. `gap` bytes stay unused behind each.
 */
export function layOut(intervals: readonly Interval[], gap = 0): Layout {
  const offsets = new Array<number>(intervals.length).fill(0);
  const order = intervals.map((_, index) => index);
  order.sort((a, b) => intervals[b].bytes - intervals[a].bytes || a - b);
  const placed: { begin: number; end: number; first: number; last: number }[] = [];
  let total = 0;
  for (const index of order) {
    const { bytes, first, last } = intervals[index];
    const size = Math.ceil((bytes + gap) / alignment) * alignment;
    let begin = 0;
    for (const other of placed) {
      if (other.last < first || other.first > last || other.end <= begin) continue;
      if (other.begin >= begin + size) break;
      begin = other.end;
    }
    offsets[index] = begin;
    total = Math.max(total, begin + size);
    const at = placed.findIndex((other) => other.begin > begin);
    placed.splice(at < 0 ? placed.length : at, 0, { begin, end: begin + size, first, last });
  }
  return { offsets, bytes: total };
}
