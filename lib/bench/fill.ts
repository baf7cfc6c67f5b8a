/** Fills with numbers spread evenly over -0.5 to 0.5, fast enough for hundreds of megabytes; returns `array`. */
export function fillUniform(array: Float32Array): Float32Array {
  // A linear congruential generator modulo 2^32 (Numerical Recipes, 1992, section 7.1).
  let state = 12345;
  for (let i = 0; i < array.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    array[i] = state / 2 ** 32;
  }
  return array;
}

/** Floats as bf16, cut off. */
export const upperHalves = (floats: Float32Array): Uint16Array =>
  Uint16Array.from(new Uint32Array(floats.buffer, floats.byteOffset, floats.length), (bits) => bits >>> 16);
