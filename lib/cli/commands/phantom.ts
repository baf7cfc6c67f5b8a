import { writePhantom } from "../../data/index.ts";
import { defineCommand } from "../arguments.ts";
import { atLeast, parseSize } from "../options.ts";
import { Progress } from "../progress.ts";
import { counted } from "../../errors.ts";

export const phantom = defineCommand({
  name: "phantom",
  summary: "Make a cohort of abdominal CT-like phantoms, to try things without patient data.",
  usage: "--out DIR [options]",
  options: {
    out: { type: "string", short: "o", placeholder: "DIR", help: "folder to fill", required: true },
    cases: { type: "integer", default: 12, help: "training cases" },
    labeled: { type: "integer", default: 4, help: "how many of them, the first ones, get a label" },
    test: { type: "integer", default: 4, help: "further, labelled cases in imagesTs/ and labelsTs/" },
    size: { type: "string", placeholder: "XxYxZ", default: "64x64x48", help: "voxels along x, y, z" },
    classes: {
      type: "integer",
      choices: ["2", "5"],
      placeholder: "N",
      default: 2,
      help: "2: liver; 5: liver, spleen, kidneys, stomach",
    },
    seed: { type: "integer", default: 0, help: "another seed makes other patients" },
  },
  positionals: [],
  examples: [
    "voxgrad phantom --out phantoms",
    "voxgrad phantom --out phantoms --cases 40 --labeled 8 --test 10 --size 128x128x96 --classes 5",
  ],
  async run({ options }, { stdout }) {
    const { out, cases, labeled, test } = options;
    const size = parseSize("--size", options.size);
    for (const extent of size) atLeast("--size", extent, 16);
    const progress = new Progress(stdout, { total: cases + test, label: "phantom", unit: "case" });
    const classes = options.classes === 5 ? 5 : 2;
    const seed = atLeast("--seed", options.seed, 0);
    await writePhantom(out, { cases, labeled, test, size, classes, seed }, (done) => progress.update(done));
    progress.done();
    progress.log(
      `${out}: ${counted(cases, "case")} (${labeled} labelled), ${counted(test, "test case")}, ${size.join(" x ")} voxels, ${counted(classes, "class")}`,
    );
  },
});
