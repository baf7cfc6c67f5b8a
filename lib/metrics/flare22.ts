import type { Triple } from "../data/volume.ts";
import { meanOfDefined } from "./mean.ts";
import { type Box, classBoxes, confusion, overlap } from "./overlap.ts";
import { elementDistances } from "./surface_distances.ts";
import { enclosing } from "./surface_geometry.ts";
import { surfaceDice } from "./surface_measures.ts";

interface Organ {
  readonly name: string;
  /** Of the surface Dice, in mm. */
  readonly tolerance: number;
  /** Scored only between the reference's first and last slice: annotators end these where they like. */
  readonly tube?: true;
}

/** The organs of FLARE22 (Ma et al. 2024) by label less 1, with the tolerances of its scorer. */
export const flare22Organs: readonly Organ[] = [
  { name: "liver", tolerance: 5 },
  { name: "right kidney", tolerance: 3 },
  { name: "spleen", tolerance: 3 },
  { name: "pancreas", tolerance: 5 },
  { name: "aorta", tolerance: 2, tube: true },
  { name: "inferior vena cava", tolerance: 2, tube: true },
  { name: "right adrenal gland", tolerance: 2 },
  { name: "left adrenal gland", tolerance: 2 },
  { name: "gallbladder", tolerance: 2 },
  { name: "esophagus", tolerance: 3, tube: true },
  { name: "stomach", tolerance: 5 },
  { name: "duodenum", tolerance: 7 },
  { name: "left kidney", tolerance: 3 },
];

/** One organ of one case, in the scorer's words: Dice similarity coefficient and normalised surface Dice. */
export interface Flare22Score {
  class: number;
  organ: string;
  dsc: number;
  nsd: number;
}

/**
 * Scores of the 13 organs of one case as the scorer of FLARE22 gives them, its quirks included; one organ at a time, so that
 * the caller can rest between them. `spacing` is in mm.
 *
 * - An organ in neither map scores 1, one that only the prediction has scores 0, both in DSC and NSD.
 * - Aorta, inferior vena cava and esophagus count only in the reference's slices along z, from the first up to but
 *   **not including the last**. A reference of a single slice leaves nothing to score: NaN.
 * - A DSC below 0.2 makes the NSD 0.
 * - Both are rounded to four places, halves to even.
 *
 * Throws ShapeError when a length does not fit the size or a label is above 13.
 */
export function* flare22Scores(
  ref: Uint8Array,
  pred: Uint8Array,
  size: Triple,
  spacing: Triple,
): Generator<Flare22Score, void, void> {
  const classes = flare22Organs.length + 1;
  const whole = confusion(ref, pred, size, classes);
  const [refBoxes, predBoxes] = [ref, pred].map((labels) => classBoxes(labels, size, classes));
  for (const [i, organ] of flare22Organs.entries()) {
    const label = i + 1;
    const score = (dsc: number, nsd: number): Flare22Score => ({
      class: label,
      organ: organ.name,
      dsc: roundToFour(dsc),
      nsd: roundToFour(nsd),
    });
    const refBox = refBoxes[label];
    let box = enclosing(refBox, predBoxes[label]);
    if (!refBox || !box) {
      yield box ? score(0, 0) : score(1, 1);
      continue;
    }
    let counts = whole[label];
    if (organ.tube) {
      box = withSlices(box, refBox.from[2], refBox.to[2] - 1);
      counts = confusion(ref, pred, size, classes, box)[label];
    }
    const dsc = counts.tp + counts.fp + counts.fn === 0 ? Number.NaN : overlap(counts).dice;
    if (dsc >= 0.2) {
      const distances = elementDistances({ ref, pred, size, spacing, label, box });
      yield score(dsc, surfaceDice(distances, organ.tolerance));
    } else yield score(dsc, Number.isNaN(dsc) ? Number.NaN : 0);
  }
}

function withSlices({ from, to }: Box, first: number, end: number): Box {
  return { from: [from[0], from[1], first], to: [to[0], to[1], end] };
}

/** As NumPy rounds: a value halfway between two goes to the even one. */
function roundToFour(value: number): number {
  const scaled = value * 1e4;
  const rounded = scaled - Math.floor(scaled) === 0.5 ? 2 * Math.round(scaled / 2) : Math.round(scaled);
  return rounded / 1e4;
}

export interface Flare22Means {
  dsc: number;
  nsd: number;
}

/** Means over the cases for every organ, and the mean over the organs; what is NaN is left out. */
export function summarizeFlare22(cases: readonly (readonly Flare22Score[])[]): {
  organs: Flare22Means[];
  mean: Flare22Means;
} {
  const means = (values: readonly Flare22Means[]): Flare22Means => ({
    dsc: meanOfDefined(values.map(({ dsc }) => dsc)),
    nsd: meanOfDefined(values.map(({ nsd }) => nsd)),
  });
  const organs = flare22Organs.map((_, i) => means(cases.map((scores) => scores[i])));
  return { organs, mean: means(organs) };
}
