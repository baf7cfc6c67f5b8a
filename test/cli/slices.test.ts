/** PNG slices from a data folder to scores, with groups. */
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { encodePng } from "../../lib/report/png.ts";
import { scratch, tiny, voxgrad } from "./harness.ts";

const root = scratch();
const data = join(root, "data");
const [width, height] = [24, 20];

/** Four patients of two slices each, a bright disc in noise; the last slice of each is not labelled. */
for (const folder of ["images", "labels", "imagesTs"]) mkdirSync(join(data, folder), { recursive: true });
for (let i = 0; i < 12; i++) {
  const name = `p${Math.floor(i / 3)}-IM-${i}.png`;
  const inside = (p: number) => Math.hypot((p % width) - 9 - (i % 4), Math.floor(p / width) - 10) < 6;
  const draw = (value: (p: number) => number) =>
    encodePng({
      width,
      height,
      channels: 1,
      data: Uint8Array.from({ length: width * height }, (_, p) => value(p)),
    });
  writeFileSync(
    join(data, "images", name),
    draw((p) => (inside(p) ? 180 : 40) + ((p * 7919 + i) % 31)),
  );
  if (i % 3 < 2)
    writeFileSync(
      join(data, "labels", name),
      draw((p) => (inside(p) ? 255 : 0)),
    );
}

const argv = ["train", "sdnet", "--data", data, "--steps", "2", ...tiny, "--set", "group=^(.+)-IM-"];

test("slices train by patients, are segmented and judged", async () => {
  const run = join(root, "run");
  const trained = await voxgrad([
    ...argv,
    "--out",
    run,
    "--labeled-cases",
    "3",
    "--set",
    "validationCases=1",
  ]);
  assert.is(trained.err, "");
  assert.is(trained.status, 0);
  assert.match(trained.out, /^classes {3}2: /);
  assert.match(
    trained.out,
    /4 \(2 groups\) labelled, 5 \(3 groups\) unlabelled, 2 \(1 group\) for validation/,
  );
  const split = JSON.parse(readFileSync(join(run, "split.json"), "utf8")) as Record<string, string[]>;
  const patients = (ids: string[]) => new Set(ids.map((id) => id.slice(0, 2)));
  const [aside] = patients(split.validation);
  assert.not.ok(patients([...split.labeled, ...split.unlabeled]).has(aside));

  const images = join(data, "images");
  const maps = join(root, "maps");
  const predicted = await voxgrad(["predict", "--run", run, "--input", images, "--out", maps]);
  assert.is(predicted.err, "");
  assert.equal(
    readdirSync(maps).sort(),
    readdirSync(images)
      .map((name) => name.replace(".png", ".nii.gz"))
      .sort(),
  );
  const judged = await voxgrad(["evaluate", "--ref", join(data, "labels"), "--pred", maps]);
  assert.is(judged.status, 0, judged.err);
  assert.match(judged.err, /no reference for p0-IM-2, p1-IM-5, p2-IM-8, p3-IM-11: left out/);
  assert.match(judged.out, /p0-IM-0/);
});

test("a patient both to train on and to test is refused", async () => {
  const name = "p3-IM-11.png";
  renameSync(join(data, "images", name), join(data, "imagesTs", name));
  const { status, err } = await voxgrad([...argv, "--out", join(root, "no")]);
  assert.is(status, 1);
  assert.match(err, /"p3" would be both trained on and tested: case "p3-IM-9" .*"p3-IM-11" lies in imagesTs/);
});

test.run();
