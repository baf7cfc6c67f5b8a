import { test } from "uvu";
import * as assert from "uvu/assert";
import { type Triple, voxelCount } from "../../lib/data/index.ts";
import type { Connectivity } from "../../lib/infer/component_runs.ts";
import { type ComponentOptions, removeComponents } from "../../lib/infer/components.ts";
import { Random } from "../../lib/random.ts";

/** A map from slices of rows of digits, `.` for background. */
function draw(...slices: (readonly string[])[]): { labels: Uint8Array; size: Triple } {
  const text = slices.map((rows) => rows.join("")).join("");
  const labels = Uint8Array.from(text, (digit) => (digit === "." ? 0 : Number(digit)));
  return { labels, size: [slices[0][0].length, slices[0].length, slices.length] };
}

/** What is left of a drawn map, as one string per slice with `/` between rows. */
async function left(slices: readonly string[], options: ComponentOptions): Promise<readonly string[]> {
  const { labels, size } = draw(...slices.map((slice) => slice.split("/")));
  await removeComponents(labels, size, options);
  const rows = Array.from({ length: size[1] * size[2] }, (_, i) =>
    [...labels.subarray(i * size[0], (i + 1) * size[0])].map((label) => (label === 0 ? "." : label)).join(""),
  );
  return slices.map((_, z) => rows.slice(z * size[1], (z + 1) * size[1]).join("/"));
}

/** The same by flood fill, a voxel at a time. */
function flood(labels: Uint8Array, size: Triple, options: ComponentOptions): Uint8Array {
  const { within, connectivity, minimum = 1, largest = false } = options;
  const steps = { 4: 1, 8: 2, 6: 1, 18: 2, 26: 3 }[connectivity as Connectivity];
  const near = [-1, 0, 1];
  const offsets = near
    .flatMap((z) => near.flatMap((y) => near.map((x) => [x, y, z])))
    .filter(
      ([x, y, z]) => Math.abs(x) + Math.abs(y) + Math.abs(z) <= steps && (within === "volume" || z === 0),
    );
  const seen = new Uint8Array(labels.length);
  const groups = new Map<string, number[][]>();
  for (let first = 0; first < labels.length; first++) {
    if (labels[first] === 0 || seen[first] === 1) continue;
    const component = [first];
    seen[first] = 1;
    for (const voxel of component) {
      const place = [
        voxel % size[0],
        Math.floor(voxel / size[0]) % size[1],
        Math.floor(voxel / size[0] / size[1]),
      ];
      for (const offset of offsets) {
        const [x, y, z] = place.map((at, axis) => at + offset[axis]);
        if (x < 0 || y < 0 || z < 0 || x >= size[0] || y >= size[1] || z >= size[2]) continue;
        const next = (z * size[1] + y) * size[0] + x;
        if (labels[next] !== labels[first] || seen[next] === 1) continue;
        seen[next] = 1;
        component.push(next);
      }
    }
    const slice = within === "slice" ? Math.floor(first / size[0] / size[1]) : 0;
    const key = `${labels[first]} ${slice}`;
    groups.set(key, [...(groups.get(key) ?? []), component]);
  }
  const result = labels.slice();
  for (const components of groups.values()) {
    const most = Math.max(...components.map((component) => component.length));
    const kept = components.find((component) => component.length === most);
    for (const component of components)
      if (component.length < minimum || (largest && component !== kept))
        for (const voxel of component) result[voxel] = 0;
  }
  return result;
}

test("4 neighbours share a side, 8 a corner too", async () => {
  const map = ["1.1/.1./2.."];
  assert.equal(await left(map, { within: "slice", connectivity: 8, minimum: 3 }), ["1.1/.1./..."]);
  assert.equal(await left(map, { within: "slice", connectivity: 4, minimum: 2 }), [".../.../..."]);
  assert.equal(await left(["11./..1"], { within: "slice", connectivity: 4, minimum: 2 }), ["11./..."]);
  assert.equal(await left(["..1/11."], { within: "slice", minimum: 3 }), ["..1/11."]);
});

test("6 neighbours share a side, 18 an edge, 26 a corner", async () => {
  const volume = (connectivity: Connectivity) => ({ within: "volume", connectivity, minimum: 2 }) as const;
  const edgeX = ["1./..", ".1/.."];
  const edgeY = ["1./..", "../1."];
  const edgeBack = ["../1.", "1./.."];
  const corner = ["1./..", "../.1"];
  const side = ["1./..", "1./.."];
  const none = ["../..", "../.."];
  for (const edge of [edgeX, edgeY, edgeBack]) {
    assert.equal(await left(edge, volume(6)), none);
    assert.equal(await left(edge, volume(18)), edge);
    assert.equal(await left(edge, volume(26)), edge);
  }
  assert.equal(await left(corner, volume(18)), none);
  assert.equal(await left(corner, volume(26)), corner);
  assert.equal(await left(side, volume(6)), side);
});

test("slices are judged one by one, a volume as a whole", async () => {
  const map = ["11/1.", "1./..", "11/11"];
  assert.equal(await left(map, { within: "slice", minimum: 3 }), ["11/1.", "../..", "11/11"]);
  assert.equal(await left(map, { within: "volume", minimum: 8 }), map);
  assert.equal(await left(map, { within: "volume", minimum: 9 }), ["../..", "../..", "../.."]);
});

test("the largest component of each class stays, the first of equals, unless it is too small", async () => {
  const map = ["11.1/2.2.", "1..1/...."];
  assert.equal(await left(map, { within: "volume", largest: true }), ["11../2...", "1.../...."]);
  assert.equal(await left(map, { within: "slice", largest: true }), ["11../2...", "1.../...."]);
  assert.equal(await left(map, { within: "volume", largest: true, minimum: 2 }), ["11../....", "1.../...."]);
});

test("components of another class neither join nor fill", async () => {
  assert.equal(await left(["121"], { within: "slice", minimum: 2 }), ["..."]);
  assert.equal(await left(["112"], { within: "slice", minimum: 2 }), ["11."]);
  // A U whose arms meet in the last row only: two labels of the first pass are one component.
  assert.equal(await left(["1.1/1.1/111"], { within: "slice", connectivity: 4, minimum: 7 }), [
    "1.1/1.1/111",
  ]);
});

test("what was removed is told, by class", async () => {
  const { labels, size } = draw(["1.11", "..33", "3...", "...."]);
  const seen: number[][] = [];
  const onProgress = (...each: number[]) => seen.push(each);
  assert.equal(await removeComponents(labels, size, { within: "slice", minimum: 2, onProgress }), [
    { class: 1, components: 1, voxels: 1 },
    { class: 3, components: 1, voxels: 1 },
  ]);
  assert.equal(seen, [
    [1, 2],
    [2, 2],
  ]);
});

test("maps without anything to remove stay as they are", async () => {
  const one = Uint8Array.of(255);
  assert.equal(await removeComponents(one, [1, 1, 1], { within: "volume", largest: true }), []);
  assert.is(one[0], 255);
  assert.equal(await removeComponents(one, [1, 1, 1], { within: "volume", minimum: 2 }), [
    { class: 255, components: 1, voxels: 1 },
  ]);
  assert.is(one[0], 0);
  assert.equal(await removeComponents(new Uint8Array(60), [3, 4, 5], { within: "volume", minimum: 9 }), []);
  assert.equal(
    await removeComponents(new Uint8Array(60).fill(2), [3, 4, 5], { within: "volume", minimum: 60 }),
    [],
  );
});

test("labels may be part of a larger buffer, whose rest stays as it is", async () => {
  const buffer = Uint8Array.of(1, 2, 1, 1, 0, 1, 2, 1);
  const labels = buffer.subarray(2, 6);
  await removeComponents(labels, [4, 1, 1], { within: "slice", minimum: 2 });
  assert.equal([...buffer], [1, 2, 1, 1, 0, 0, 2, 1]);
});

test("random maps are what a flood fill makes of them", async () => {
  const random = new Random(11, 0);
  const connectivities: Record<ComponentOptions["within"], Connectivity[]> = {
    slice: [4, 8],
    volume: [6, 18, 26],
  };
  const upTo = (most: number) => 1 + Math.floor(random.uniform() * most);
  for (const within of ["slice", "volume"] as const) {
    for (const connectivity of connectivities[within]) {
      for (let round = 0; round < 60; round++) {
        const size: Triple = [upTo(14), upTo(9), upTo(7)];
        const background = random.uniform();
        const labels = Uint8Array.from({ length: voxelCount(size) }, () =>
          random.uniform() < background ? 0 : upTo(3),
        );
        const options = { within, connectivity, minimum: upTo(12), largest: round % 3 === 0 };
        const expected = flood(labels, size, options);
        const lost = labels.filter((label, i) => label !== expected[i]).length;
        const removed = await removeComponents(labels, size, options);
        assert.equal(labels, expected, JSON.stringify({ size, ...options }));
        assert.is(
          removed.reduce((sum, { voxels }) => sum + voxels, 0),
          lost,
        );
      }
    }
  }
});

test("what cannot be meant is refused, and an abort is heeded", async () => {
  const refuse = async (options: ComponentOptions, expected: RegExp, length = 8) => {
    const outcome = removeComponents(new Uint8Array(length).fill(1), [2, 2, 2], options);
    const message = await outcome.then(
      () => "none",
      (error: unknown) => String(error),
    );
    assert.match(message, expected);
  };
  await refuse({ within: "slice", connectivity: 6 }, /within a slice is one of 4, 8; found 6/);
  await refuse({ within: "volume", connectivity: 8 }, /within a volume is one of 6, 18, 26; found 8/);
  await refuse({ within: "slice", minimum: 0 }, /must be 1 or more, found 0/);
  await refuse({ within: "slice", minimum: Number.NaN }, /must be 1 or more, found NaN/);
  await refuse({ within: "slice" }, /2 x 2 x 2 voxels need as many labels, found 7/, 7);
  await refuse({ within: "slice", signal: AbortSignal.abort("enough") }, /enough/);
});

test.run();
