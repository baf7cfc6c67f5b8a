import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { checkTestApart, hideLabels, holdOut, loadCase, openDataset } from "../../lib/data/dataset.ts";
import { grouping, groupsOf } from "../../lib/data/groups.ts";
import type { LabelMapping } from "../../lib/data/label_map.ts";
import { writeImage, writeLabels } from "../../lib/data/nifti.ts";
import { screenGeometry, type Triple } from "../../lib/data/volume.ts";

const root = mkdtempSync(join(tmpdir(), "voxgrad-dataset-"));

/** A data folder of empty files: opening one reads nothing but names. */
function folder(files: Record<string, string[]>): string {
  const dir = mkdtempSync(join(root, "d-"));
  for (const [name, entries] of Object.entries(files)) {
    mkdirSync(join(dir, name));
    for (const entry of entries) writeFileSync(join(dir, name, entry), "");
  }
  return dir;
}

async function fails(work: Promise<unknown>, pattern: RegExp): Promise<void> {
  try {
    await work;
  } catch (error) {
    assert.is((error as { code?: string }).code, "ERR_DATA", String(error));
    assert.match((error as Error).message, pattern);
    return;
  }
  assert.unreachable(`expected an error like ${String(pattern)}`);
}

const summary = (cases: { id: string; label?: string }[]) =>
  cases.map(({ id, label }) => `${id}${label ? "+" : ""}`);

test("images/ and labels/ pair by name, unlabelled images stay, order is by id", async () => {
  const dir = folder({
    images: ["b.nii", "a.nii.gz", "c.nii.gz", "._c.nii.gz", "notes.txt"],
    labels: ["a.nii.gz", "b.nii.gz"],
  });
  const { cases, test: tests } = await openDataset(dir);
  assert.equal(summary(cases), ["a+", "b+", "c"]);
  assert.is(cases[1].image, join(dir, "images", "b.nii"));
  assert.is(cases[1].label, join(dir, "labels", "b.nii.gz"));
  assert.equal(tests, []);
});

test("the nnU-Net layout loses its channel suffix, in the test folder too", async () => {
  const { cases, test: tests } = await openDataset(
    folder({
      imagesTr: ["liver_1_0000.nii.gz", "liver_2_0000.nii.gz"],
      labelsTr: ["liver_1.nii.gz"],
      imagesTs: ["liver_9_0000.nii.gz"],
      labelsTs: [],
    }),
  );
  assert.equal(summary(cases), ["liver_1+", "liver_2"]);
  assert.equal(summary(tests), ["liver_9"]);
});

test("four digits that labels bear too are a number, not a channel", async () => {
  const { cases } = await openDataset(
    folder({ images: ["c_0000.nii", "c_0001.nii", "c_0002.nii"], labels: ["c_0000.nii", "c_0001.nii"] }),
  );
  assert.equal(summary(cases), ["c_0000+", "c_0001+", "c_0002"]);
});

test("PNG slices are cases by the same rules", async () => {
  const plain = await openDataset(folder({ images: ["p-IM-1.png", "p-IM-2.png"], labels: ["p-IM-1.png"] }));
  assert.equal(summary(plain.cases), ["p-IM-1+", "p-IM-2"]);
  const channels = await openDataset(folder({ imagesTr: ["a_0000.png"], labelsTr: ["a.png"] }));
  assert.equal(summary(channels.cases), ["a+"]);
});

test("layouts that cannot be used are explained", async () => {
  await fails(
    openDataset(join(root, "nowhere")),
    /expected a data folder \(images\/ with labels\/, or imagesTr\//,
  );
  await fails(openDataset(folder({})), /found an empty folder/);
  await fails(openDataset(folder({ pictures: [] })), /expected images\/ with labels\/.*found pictures/);
  await fails(openDataset(folder({ images: ["a.nii"] })), /expected labels\/ beside images\//);
  await fails(
    openDataset(folder({ images: ["a.jpg"], labels: [] })),
    /images: expected \.nii, \.nii\.gz or \.png files/,
  );
  await fails(
    openDataset(folder({ images: ["a.nii", "b.png"], labels: [] })),
    /images: expected either NIfTI or PNG files, found both: a\.nii and b\.png/,
  );
  await fails(
    openDataset(folder({ images: ["a.png"], labels: ["a.nii.gz"] })),
    /expected either NIfTI or PNG files, found both: a\.nii\.gz and a\.png/,
  );
  await fails(openDataset(folder({ images: [], imagesTr: [], labels: [] })), /both images\/ and imagesTr\//);
  await fails(
    openDataset(folder({ images: ["a.nii"], labels: ["a.nii", "z.nii"] })),
    /z\.nii: expected an image for this label/,
  );
  await fails(
    openDataset(folder({ images: ["a.nii", "a.nii.gz"], labels: [] })),
    /one file per case, found two/,
  );
  await fails(
    openDataset(folder({ imagesTr: ["a_0000.nii", "a_0001.nii"], labelsTr: ["a.nii"] })),
    /a_0001\.nii: expected one channel per case.*several channels per case are not supported/,
  );
  await fails(
    openDataset(folder({ imagesTr: ["a.nii", "a_0000.nii"], labelsTr: [] })),
    /one image for case a/,
  );
});

test("hideLabels keeps nested sets, holdOut splits labelled cases off", () => {
  const cases = Array.from({ length: 30 }, (_, i) => ({
    id: `c${i}`,
    image: `i${i}`,
    ...(i % 3 ? { label: `l${i}` } : {}),
  }));
  const kept = (n: number, seed = 4) => hideLabels(cases, n, seed).flatMap((c) => (c.label ? [c.id] : []));
  assert.is(hideLabels(cases, 5, 4).length, 30);
  assert.is(kept(5).length, 5);
  assert.ok(kept(5).every((id) => kept(9).includes(id)));
  assert.equal(kept(9), kept(9));
  assert.not.equal(kept(9), kept(9, 5));
  assert.equal(kept(0), []);
  assert.throws(() => hideLabels(cases, 21, 0), /from 0 to 20, the labelled cases at hand; found 21/);
  const { train, test: held } = holdOut(cases, 6, 1);
  assert.is(held.length, 6);
  assert.ok(held.every((c) => c.label && !train.includes(c)));
  assert.is(train.length, 24);
  assert.throws(() => holdOut(cases, -1, 0), /found -1/);
});

test("loadCase refuses pairs that do not fit and reports those that look misplaced", async () => {
  const path = (name: string) => join(root, name);
  const size: Triple = [3, 4, 5];
  const geometry = screenGeometry(size, [1, 1, 2]);
  await writeImage(path("i.nii"), { size, data: new Float32Array(60), geometry });
  const label = (name: string, s: Triple, g = geometry) =>
    writeLabels(path(name), { size: s, data: new Uint8Array(s[0] * s[1] * s[2]).fill(1), geometry: g });
  const load = (name: string) => loadCase({ id: "x", image: path("i.nii"), label: path(name) }, 2);
  await label("same.nii", size);
  const loaded = await load("same.nii");
  assert.equal(loaded.warnings, []);
  assert.is(loaded.label?.data[0], 1);
  await label("size.nii", [4, 3, 5]);
  await fails(
    load("size.nii"),
    /size\.nii: expected the size of its image .*i\.nii, 3 x 4 x 5; found 4 x 3 x 5/,
  );
  await label("spacing.nii", size, screenGeometry(size, [1, 1, 2.01]));
  await fails(load("spacing.nii"), /1 x 1 x 2 mm; found 1 x 1 x 2\.01 mm/);
  const moved = geometry.affine.map((v, i) => (i === 3 ? v + 2 : i === 0 ? -v : v));
  await label("moved.nii", size, { spacing: geometry.spacing, affine: moved });
  const { warnings } = await load("moved.nii");
  assert.is(warnings.length, 2);
  assert.match(warnings[1], /2\.00 mm/);
  await fails(
    loadCase({ id: "x", image: path("i.nii"), label: path("same.nii") }, 1),
    /labels 0 to 0, found 60/,
  );
  const data = new Float32Array(60);
  data[7] = Number.NaN;
  await writeImage(path("nan.nii"), { size, data, geometry });
  await fails(loadCase({ id: "x", image: path("nan.nii") }), /found 1 voxel with NaN or infinity/);
});

test("a group is hidden, held out and tested whole", () => {
  const cases = Array.from({ length: 30 }, (_, i) => {
    const c = { id: `p${Math.floor(i / 3)}-IM-${i}`, image: `${i}.png` };
    return i % 3 < 2 && i < 24 ? { ...c, label: `l${i}.png` } : c;
  });
  const group = "^(.+)-IM-";
  const patients = (found: { id: string }[]) => new Set(found.map(({ id }) => id.split("-")[0]));
  const kept = (n: number) => hideLabels(cases, n, 3, group).filter(({ label }) => label);
  assert.is(kept(5).length, 10);
  assert.is(patients(kept(5)).size, 5);
  assert.ok([...patients(kept(2))].every((patient) => patients(kept(5)).has(patient)));
  assert.throws(() => hideLabels(cases, 9, 3, group), /from 0 to 8, the labelled groups at hand; found 9/);

  const { train, test: held } = holdOut(cases, 3, 1, group);
  assert.is(held.length, 9);
  assert.is(patients(held).size, 3);
  assert.is(train.length, 21);
  assert.not.ok([...patients(train)].some((patient) => patients(held).has(patient)));

  assert.throws(() => hideLabels(cases, 1, 3, "^q"), /"group": \^q finds no group in .* case "p0-IM-0"/);
  checkTestApart({ dir: "d", cases: train, test: held }, group);
  checkTestApart({ dir: "d", cases, test: held }, null);
  assert.throws(
    () => checkTestApart({ dir: "d", cases, test: held }, group),
    /d: "p\d" would be both trained on and tested/,
  );
});

const shared = join(import.meta.dirname, "../../../shared/data");
if (existsSync(join(shared, "hippocampus"))) {
  test("real: the hippocampus crops load, all with labels 0 to 2", async () => {
    const { cases } = await openDataset(join(shared, "hippocampus"));
    assert.is(cases.length, 200);
    assert.ok(cases.every(({ label }) => label));
    const { train, test: held } = holdOut(cases, 40, 0);
    assert.is(train.length, 160);
    for (const c of held.slice(0, 12)) {
      const { image, label, warnings } = await loadCase(c, 3);
      assert.equal(warnings, [], c.id);
      assert.equal(image.geometry.spacing, [1, 1, 1]);
      assert.is(Math.max(...label!.data), 2);
    }
  });
} else {
  console.log("skipped: the hippocampus test needs ../shared/data/hippocampus");
}

if (existsSync(join(shared, "cardiac"))) {
  test("real: the cardiac slices load, all with masks", async () => {
    const { cases } = await openDataset(join(shared, "cardiac"));
    assert.is(cases.length, 526);
    const patient = grouping("^(.+)-IM-");
    const patients = (found: { id: string }[]) =>
      groupsOf(
        found.map(({ id }) => id),
        patient,
      );
    assert.is(patients(cases).length, 30);
    const { train, test: held } = holdOut(cases, 10, 0, "^(.+)-IM-");
    assert.is(patients(held).length, 10);
    assert.is(new Set([...patients(train), ...patients(held)]).size, 30);
    assert.is(patients(train).length, 20);
    for (const c of cases.filter((_, i) => i % 25 === 0)) {
      const { image, label, warnings } = await loadCase(c, 2);
      assert.equal(warnings, [], c.id);
      assert.equal(image.size, [256, 256, 1]);
      assert.is(Math.max(...label!.data), 1, c.id);
    }
  });
} else {
  console.log("skipped: the cardiac test needs ../shared/data/cardiac");
}

if (existsSync(join(shared, "totalseg"))) {
  test("real: TotalSegmentator maps lie behind a header extension", async () => {
    const at = (name: string) => join(shared, "totalseg", name);
    const pairs = [
      ["example_ct.nii.gz", "example_seg_fast_force_split.nii.gz"],
      ["example_ct_sm.nii.gz", "example_seg.nii.gz"],
      ["example_mr_sm.nii.gz", "example_seg_mr.nii.gz"],
    ];
    for (const [image, label] of pairs) {
      const loaded = await loadCase({ id: image, image: at(image), label: at(label) });
      assert.ok(Math.max(...loaded.label!.data.subarray(0, 1000)) <= 117);
      if (image !== "example_ct.nii.gz") continue;
      let sum = 0;
      let voxels = 0;
      loaded.label!.data.forEach((c, i) => {
        if (c !== 5) return;
        sum += loaded.image.data[i];
        voxels++;
      });
      assert.ok(
        voxels > 1000 && Math.abs(sum / voxels - 44) < 3,
        `liver: ${sum / voxels} HU in ${voxels} voxels`,
      );
    }
  });

  test("real: TotalSegmentator's 117 classes become the 13 organs of FLARE22", async () => {
    const at = (name: string) => join(shared, "totalseg", name);
    const example = join(import.meta.dirname, "../../examples/label-maps/totalsegmentator_flare22.json");
    const mapping = JSON.parse(readFileSync(example, "utf8")) as LabelMapping;
    const label = at("example_seg_fast_force_split.nii.gz");
    const stored = await loadCase({ id: "ct", image: at("example_ct.nii.gz"), label });
    const organs = await loadCase({ id: "ct", image: at("example_ct.nii.gz"), label }, 14, mapping);
    const from = [0, 5, 2, 1, 7, 52, 63, 8, 9, 4, 15, 6, 19, 3];
    organs.label!.data.forEach((organ, i) => {
      const organOfValue = Math.max(0, from.indexOf(stored.label!.data[i]));
      if (organ !== organOfValue) assert.unreachable(`voxel ${i}: ${organ}, not ${organOfValue}`);
    });
    assert.equal(
      [...new Set(organs.label!.data)].sort((a, b) => a - b),
      [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13],
    );
  });
} else {
  console.log("skipped: the TotalSegmentator test needs ../shared/data/totalseg");
}

if (existsSync(join(shared, "sct")) && existsSync(join(shared, "chaos_ct3"))) {
  test("real: spine MR in unusual orientations and a contrast CT pair with their masks", async () => {
    const pairs = [
      ["sct/t1w.nii.gz", "sct/t1w_seg-manual.nii.gz", 0],
      ["sct/t2.nii.gz", "sct/t2_seg-manual.nii.gz", 0],
      ["chaos_ct3/ct_256.nii.gz", "chaos_ct3/liver_256.nii.gz", 338383],
    ] as const;
    for (const [image, label, expected] of pairs) {
      const loaded = await loadCase({ id: image, image: join(shared, image), label: join(shared, label) }, 2);
      assert.equal(loaded.warnings, [], image);
      const voxels = loaded.label!.data.reduce((sum, v) => sum + v, 0);
      assert.ok(expected ? voxels === expected : voxels > 100, `${image}: ${voxels}`);
    }
  });
} else {
  console.log("skipped: the spine and CT pairs need ../shared/data/sct and ../shared/data/chaos_ct3");
}

test.after(() => {
  assert.ok(readdirSync(root).length > 0);
  rmSync(root, { recursive: true });
});
test.run();
