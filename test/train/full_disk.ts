/** Saves a small checkpoint, then one over the limit on file sizes it was started with. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { saveCheckpoint } from "../../lib/train/checkpoint.ts";

const folder = process.argv[2];
mkdirSync(folder);
const save = (step: number, elements: number) =>
  saveCheckpoint(join(folder, "last.safetensors"), {
    tensors: new Map([["w", { shape: [elements], data: new Float32Array(elements) }]]),
    metadata: { step: String(step) },
  });
await save(1, 1000);
try {
  await save(2, 1_000_000);
} catch (error) {
  const { code, message } = error as Error & { code: string };
  console.log(code, message);
}
