import { test } from "uvu";
import * as assert from "uvu/assert";
import { preprocess, window, zScore } from "../../lib/data/preprocess.ts";
import { screenGeometry, type Triple } from "../../lib/data/volume.ts";

const size: Triple = [5, 1, 1];
const volume = {
  size,
  data: Float32Array.of(-500, 0, 100, 400, 900),
  geometry: screenGeometry(size, [1, 1, 1]),
};

test("a window clips, then scales to [0, 1]", () => {
  assert.equal([...window(volume.data, 0, 400)], [0, 0, 0.25, 1, 1]);
  assert.throws(() => window(volume.data, 5, 5), /low < high; found \[5, 5\]/);
});

test("z-score uses the population deviation and survives a constant image", () => {
  const z = zScore(Float32Array.of(1, 2, 3, 4));
  const deviation = Math.sqrt(1.25) + 1e-6;
  z.forEach((value, i) => assert.ok(Math.abs(value - (i - 1.5) / deviation) < 1e-6));
  assert.equal([...zScore(Float32Array.of(7, 7))], [0, 0]);
});

test("preprocess combines window and normalisation and leaves its input alone", () => {
  const before = volume.data.slice();
  assert.equal([...preprocess(volume, { window: [0, 400], normalize: "unit" }).data], [0, 0, 0.25, 1, 1]);
  assert.equal([...preprocess(volume, { window: [0, 400], normalize: "none" }).data], [0, 0, 100, 400, 400]);
  const unit = preprocess(volume, { normalize: "unit" }).data;
  assert.ok(unit[0] === 0 && Math.abs(unit[4] - 1) < 1e-6);
  const z = preprocess(volume, { window: [0, 400], normalize: "zscore" });
  const expected = zScore(Float32Array.of(0, 0, 100, 400, 400));
  assert.equal([...z.data], [...expected]);
  assert.is(z.geometry, volume.geometry);
  const copy = preprocess(volume, { normalize: "none" });
  copy.data[0] = 1;
  assert.equal(volume.data, before);
  for (const config of [{ window: [0, 400], normalize: "zscore" }, { normalize: "unit" }] as const) {
    const own = { ...volume, data: volume.data.slice() };
    const inPlace = preprocess(own, config, own.data);
    assert.is(inPlace.data, own.data);
    assert.equal(inPlace.data, preprocess(volume, config).data);
  }
  assert.throws(() => preprocess(volume, { window: [1, 0], normalize: "none" }), /low < high/);
});

test.run();
