export { kaimingNormal, Seeds, uniformBias } from "./initial.ts";
export {
  BatchNorm3d,
  ChannelDropout,
  Conv3d,
  type ConvLayerOptions,
  ConvNormRelu,
  ConvTranspose3d,
  Sequential,
} from "./layers.ts";
export { type Mode, Module, nameStates, Parameter } from "./module.ts";
