/** Convolutions of unusual shapes: those for which kernels have ways of their own. */
import { test } from "uvu";
import type { Shape } from "../../lib/graph/value.ts";
import { type Case, type Triple, all, checkConv } from "./conv_case.ts";
import { plain } from "../oracle/conv.ts";

test("a 2-D slice has depth 1", async () => {
  for (const [kernel, groups] of [
    [3, 1],
    [1, 1],
    [3, 9],
  ] as const)
    await checkConv({
      x: [2, 1, 13, 17, 9],
      w: [9, 1, kernel, kernel, 9 / groups],
      geometry: { ...plain, stride: [1, 2, 2], padding: [0, 1, 1], groups },
    });
});

test("dilation 6 as in spatial pyramids: most taps read padding", async () => {
  for (const size of [
    [1, 9, 10],
    [7, 5, 6],
  ] as Triple[]) {
    const flat = size[0] === 1;
    const reach: Triple = flat ? [0, 6, 6] : all(6);
    const geometry = { ...plain, padding: reach, dilation: flat ? [1, 6, 6] : all(6) };
    await checkConv({ x: [1, ...size, 8], w: [5, flat ? 1 : 3, 3, 3, 8], geometry });
    await checkConv({
      x: [1, ...size, 8],
      w: [8, flat ? 1 : 3, 3, 3, 1],
      geometry: { ...geometry, groups: 8 },
    });
  }
});

test("no tap reaches the source: zeros, and gradients of zero", async () => {
  await checkConv({
    x: [1, 2, 3, 4, 4],
    w: [4, 2, 2, 2, 4],
    geometry: { ...plain, stride: [7, 5, 3], padding: all(5), dilation: [3, 6, 2] },
  });
});

test("several taps to a few channels, and from a few, as gradients of first layers: rows of any length", async () => {
  for (const [x, w, geometry] of [
    [[1, 5, 4, 37, 1], [16, 3, 3, 3, 1], { padding: all(1) }],
    [[2, 3, 4, 20, 2], [21, 2, 3, 5, 2], { padding: [1, 0, 2] }],
    [[1, 1, 18, 19, 3], [24, 1, 7, 7, 3], { padding: [0, 3, 3], stride: [1, 2, 2] }],
    [[1, 4, 5, 23, 4], [40, 3, 3, 3, 4], { padding: all(2), dilation: [1, 1, 2] }],
    [[1, 1, 3, 2, 1], [17, 1, 3, 4, 1], { padding: [0, 1, 3], dilation: [1, 1, 2], stride: [1, 1, 3] }],
    // Rows longer than the sums that wait for each other; pairs of rows that read different taps.
    [[1, 1, 5, 171, 1], [20, 1, 3, 3, 1], { padding: [0, 1, 1] }],
    [[1, 3, 3, 171, 4], [24, 1, 3, 7, 4], { padding: [0, 1, 3], stride: [2, 1, 1] }],
    [[1, 5, 8, 37, 1], [16, 3, 3, 3, 1], { padding: all(1), stride: all(2) }],
    [[2, 4, 7, 33, 1], [32, 3, 5, 3, 1], { padding: [1, 4, 1], stride: [1, 3, 1], dilation: [1, 2, 1] }],
  ] as [Shape, Shape, Partial<Case["geometry"]>][]) {
    await checkConv({ x, w, geometry: { ...plain, ...geometry } });
    const swapped = { x: [...x.slice(0, 4), w[0]], w: [x[4], ...w.slice(1, 4), w[0]] };
    await checkConv({ ...swapped, geometry: { ...plain, ...geometry } });
  }
});

test("many channels: products of one tap at a time, over rows of any length and in chunks of channels", async () => {
  const pad = (padding: Triple) => ({ ...plain, padding });
  for (const each of [
    { x: [2, 3, 4, 5, 70], w: [68, 3, 3, 3, 70], geometry: pad(all(1)) },
    { x: [3, 2, 2, 1, 64], w: [72, 3, 3, 3, 64], geometry: pad(all(1)) },
    { x: [1, 1, 9, 15, 300], w: [35, 1, 3, 3, 300], geometry: { ...pad([0, 1, 1]), stride: [1, 2, 2] } },
    { x: [1, 1, 6, 7, 33], w: [290, 1, 3, 3, 33], geometry: { ...pad([0, 0, 2]), stride: [1, 1, 3] } },
    { x: [1, 1, 13, 14, 66], w: [66, 1, 3, 3, 66], geometry: { ...pad([0, 6, 6]), dilation: [1, 6, 6] } },
    { x: [1, 1, 3, 23, 64], w: [64, 1, 2, 3, 64], geometry: { ...pad([0, 1, 18]), dilation: [1, 1, 18] } },
    { x: [2, 1, 4, 9, 144], w: [136, 1, 3, 2, 72], geometry: { ...pad([0, 1, 1]), groups: 2 } },
  ])
    await checkConv(each);
  await checkConv(
    { x: [1, 3, 4, 7, 64], w: [64, 3, 3, 3, 64], geometry: { ...pad(all(1)), stride: all(2) } },
    true,
  );
});

test("larger volumes, shared out among the threads", async () => {
  await checkConv({ x: [1, 18, 21, 26, 8], w: [8, 3, 3, 3, 8], geometry: { ...plain, padding: all(1) } });
  await checkConv({ x: [1, 26, 22, 30, 3], w: [16, 2, 2, 2, 3], geometry: { ...plain, stride: all(2) } });
  await checkConv(
    { x: [1, 26, 22, 30, 3], w: [16, 2, 2, 2, 3], geometry: { ...plain, stride: all(2) } },
    true,
  );
  await checkConv({ x: [2, 1, 65, 70, 5], w: [9, 1, 3, 3, 5], geometry: { ...plain, padding: [0, 1, 1] } });
});

test("blocks that do not overlap, pointwise kernels and stems, with channels and extents that fill no vector", async () => {
  const of = (x: Shape, filters: number, kernel: Triple, stride: Triple, padding: Triple = all(0)): Case => ({
    x,
    w: [filters, ...kernel, x[4]],
    geometry: { ...plain, stride, padding },
  });
  const cases = [
    ...[1, 3, 5, 17].flatMap((channels) => [
      of([1, 4, 6, 8, channels], 33, all(2), all(2)),
      of([2, 5, 7, 11, channels], 17, all(2), all(2)),
      of([2, 3, 5, 9, channels], 40, all(1), all(1)),
      of([1, 5, 4, 13, 40], channels, all(1), [2, 1, 3]),
    ]),
    // So few output channels that lanes are input channels; the last case is more than one task.
    ...[1, 2, 3, 4].flatMap((filters) =>
      [16, 5, 33].map((c) => of([2, 3, 5, 3, c], filters, all(1), all(1))),
    ),
    of([1, 15, 17, 19, 16], 2, all(1), all(1)),
    // Vectors that run over into the next voxel, alone and behind whole ones; the last block has a part of a tile.
    of([1, 9, 13, 17, 6], 5, all(1), all(1)),
    of([2, 7, 11, 13, 24], 20, all(1), all(1)),
    // Taps that leave gaps, voxels behind the last block, several slabs of voxels.
    of([1, 5, 4, 19, 16], 50, [2, 1, 3], [3, 2, 4]),
    of([2, 16, 17, 18, 16], 16, all(2), all(2)),
    // The same read where they lie.
    of([2, 1, 64, 67, 32], 70, all(1), [1, 2, 2]),
    of([1, 5, 6, 7, 64], 140, all(1), all(2)),
    // Enough of both channels that tasks of a weight gradient share voxels, and the packed gradient of y.
    of([1, 3, 11, 12, 200], 150, all(1), all(1)),
    of([2, 8, 10, 12, 56], 90, all(2), all(2)),
    // So many output channels that they are divided into ranges, of voxels read where they lie and packed.
    of([1, 4, 8, 8, 32], 1040, all(1), all(1)),
    of([1, 4, 8, 8, 40], 850, all(1), all(1)),
    // Long rows, whose tiles clear what lies between the voxels of the next row.
    of([1, 21, 19, 54, 5], 24, all(1), all(2)),
    of([1, 9, 40, 60, 6], 20, [1, 2, 1], [2, 3, 2]),
    of([1, 1, 130, 60, 6], 3, all(1), [1, 2, 2]),
    of([1, 12, 14, 13, 20], 13, all(1), all(1)),
    // Lines of neighbours, and runs that are cut for want of registers.
    of([2, 6, 5, 24, 1], 24, all(3), all(1), all(1)),
    of([1, 9, 8, 16, 1], 35, all(7), all(1), all(3)),
    of([1, 5, 9, 15, 3], 16, [3, 1, 7], [1, 2, 1], [0, 2, 3]),
    of([1, 4, 9, 22, 4], 19, [1, 3, 9], [2, 1, 2], [1, 0, 4]),
    of([1, 1, 33, 35, 2], 16, [1, 5, 5], [1, 2, 2], [0, 2, 2]),
    // Blocks of several planes and rows; planes that read nothing but padding.
    of([1, 20, 18, 8, 1], 16, all(3), all(1), all(1)),
    of([2, 1, 160, 20, 3], 16, [1, 5, 5], [1, 2, 2], [0, 2, 2]),
    of([2, 5, 40, 20, 2], 16, [2, 3, 3], [1, 2, 1], [3, 4, 1]),
    of([1, 3, 12, 101, 3], 20, [2, 3, 3], [1, 2, 1], [3, 4, 1]),
  ];
  for (const each of cases) {
    await checkConv(each);
    await checkConv(each, true);
  }
  await checkConv({
    x: [1, 9, 8, 12, 1],
    w: [16, 3, 3, 3, 1],
    geometry: { ...plain, padding: [2, 3, 1], dilation: [2, 3, 1] },
  });
});

test("depthwise: rows of any length, runs of taps that leave the row, channels that fill no vector and several blocks", async () => {
  const of = (x: Shape, kernel: Triple, geometry: Partial<Case["geometry"]>): Case => ({
    x,
    w: [x[4], ...kernel, 1],
    geometry: { ...plain, ...geometry, groups: x[4] },
  });
  const cases = [1, 2, 4, 5, 6, 9, 10, 11, 23].map((width) =>
    of([1, 3, 4, width, 9], all(3), { padding: all(1) }),
  );
  cases.push(
    of([2, 4, 5, 13, 70], all(3), { padding: [1, 2, 0] }),
    of([1, 5, 9, 12, 16], all(7), { padding: all(3) }),
    of([1, 1, 7, 30, 33], [1, 5, 5], { padding: [0, 2, 2] }),
    of([1, 1, 3, 21, 8], [1, 2, 16], { padding: [0, 1, 15] }),
    of([1, 1, 3, 21, 8], [1, 2, 17], { padding: [0, 1, 8] }),
    of([1, 4, 9, 22, 12], all(3), { padding: all(1), stride: all(2) }),
    of([1, 3, 8, 17, 5], [2, 3, 4], { padding: [1, 0, 3], stride: [1, 3, 2] }),
    of([1, 5, 8, 19, 24], all(3), { padding: [2, 3, 4], dilation: [2, 3, 4] }),
    of([1, 3, 8, 19, 17], [1, 3, 5], { padding: [0, 2, 4], dilation: [1, 2, 2], stride: [1, 1, 2] }),
    of([1, 3, 6, 21, 10], [3, 3, 5], { padding: [1, 1, 3], dilation: [1, 1, 3], stride: [2, 1, 3] }),
    // More padding than taps, and taps that reach nothing.
    of([1, 2, 3, 4, 6], all(3), { padding: all(5), dilation: [1, 2, 3] }),
  );
  for (const each of cases) {
    await checkConv(each);
    await checkConv(each, true);
  }
});

test("few voxels of many channels, whose weights are read as they are", async () => {
  for (const [x, w, geometry] of [
    [[2, 2, 2, 2, 64], [82, 3, 3, 3, 64], { padding: all(1) }],
    [[1, 4, 2, 5, 80], [64, 3, 3, 3, 80], { padding: all(1) }],
    [[1, 3, 3, 4, 48], [128, 3, 3, 3, 48], { padding: all(1), dilation: [1, 2, 1] }],
    [[2, 4, 4, 4, 64], [97, 3, 3, 3, 64], { padding: all(1), stride: all(2) }],
    [[2, 4, 4, 4, 128], [160, 2, 2, 2, 128], { stride: all(2) }],
    [[2, 1, 4, 5, 176], [96, 1, 3, 3, 176], { padding: [0, 1, 1] }],
    // One voxel, most taps in the padding; channels that fill no vector; as many voxels as are few.
    [[1, 1, 1, 1, 64], [80, 3, 3, 3, 64], { padding: all(1) }],
    [[1, 3, 4, 3, 45], [110, 3, 3, 3, 45], { padding: all(1) }],
    [[2, 4, 4, 4, 36], [33, 3, 3, 3, 36], { padding: all(1) }],
  ] as [Shape, Shape, Partial<Case["geometry"]>][])
    await checkConv({ x, w, geometry: { ...plain, ...geometry } });
});

test("input gradients of a few channels, which are stems with mirrored filters", async () => {
  const cases: Case[] = [
    { x: [2, 4, 6, 17, 17], w: [1, 3, 3, 3, 17], geometry: { ...plain, padding: [1, 2, 0] } },
    {
      x: [1, 5, 9, 22, 40],
      w: [3, 3, 3, 3, 40],
      geometry: { ...plain, padding: all(1), dilation: [2, 1, 1] },
    },
    { x: [1, 1, 20, 33, 20], w: [4, 1, 3, 3, 20], geometry: { ...plain, padding: [0, 1, 1] } },
    { x: [1, 3, 7, 30, 16], w: [2, 2, 1, 7, 16], geometry: { ...plain, padding: [1, 0, 4] } },
    { x: [1, 3, 7, 30, 16], w: [2, 2, 1, 4, 16], geometry: { ...plain, padding: [0, 0, 3] } },
  ];
  for (const each of cases) {
    await checkConv(each);
    await checkConv(each, true);
  }
});

test.run();
