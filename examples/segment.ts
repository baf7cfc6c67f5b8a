/**
 * A trained model inside an app: the networks of a run are loaded once and segment scan after scan, as `voxgrad predict` does.
 *   node --import tsx examples/segment.ts RUN LABELS SCAN.nii.gz...      LABELS is a folder that exists
 */
import { basename, join } from "node:path";
import {
  inverse,
  loadRun,
  loadVolume,
  openDevice,
  Predictor,
  predictVolume,
  rearrange,
  RunFolder,
  writeLabels,
} from "voxgrad";

const [folder, out, ...scans] = process.argv.slice(2);
const device = openDevice();
const run = await loadRun(new RunFolder(folder), device);
const predictor = new Predictor(run.networks, device);

for (const scan of scans) {
  // Windowed, normalised and turned as the images of the training were.
  const volume = await loadVolume({ id: scan, image: scan }, run.config, (warning) => console.warn(warning));
  const { image, size, geometry, file } = volume;
  const data = await predictVolume(predictor, image, size, { patch: run.config.patch });
  const labels = rearrange({ size, data, geometry }, inverse(file.rearranged));
  const path = join(out, basename(scan));
  await writeLabels(path, { ...labels, geometry: file.geometry });
  console.log(`${path}: ${data.filter((label) => label > 0).length} of ${data.length} voxels are foreground`);
}
await predictor.dispose();
run.dispose();
