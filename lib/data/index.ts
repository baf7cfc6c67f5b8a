export {
  type Case,
  checkTestApart,
  type Dataset,
  hideLabels,
  holdOut,
  type LoadedCase,
  loadCase,
  openDataset,
} from "./dataset.ts";
export { type Grouping, grouping, groupsOf } from "./groups.ts";
export type { LabelMapping } from "./label_map.ts";
export { readHeader, writeImage, writeLabels } from "./nifti.ts";
export type { NiftiHeader, NiftiType } from "./nifti_header.ts";
export {
  inverse,
  isOrientation,
  orientationOf,
  rearrange,
  type Rearrangement,
  rearrangementTo,
} from "./orientation.ts";
export {
  type CohortOptions,
  type PhantomCase,
  type PhantomOptions,
  phantomCase,
  writePhantom,
} from "./phantom.ts";
export { type Preprocess, preprocess, window, zScore } from "./preprocess.ts";
export { philox4x32, Random } from "../random.ts";
export { readImage, readLabels } from "./read.ts";
export { type PatchOptions, PatchSampler, type SampledVolume } from "./sampler.ts";
export {
  affineSpacing,
  type Geometry,
  type NiftiPlacement,
  screenGeometry,
  type Triple,
  type Volume,
  type VolumeData,
  voxelCount,
} from "./volume.ts";
