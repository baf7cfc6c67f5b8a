import { UsageError } from "./errors.ts";

const TWO32 = 2 ** 32;

function mulHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const mid = aHigh * bLow + ((aLow * bLow) >>> 16);
  const cross = aLow * bHigh + (mid & 0xffff);
  return (aHigh * bHigh + (mid >>> 16) + (cross >>> 16)) >>> 0;
}

function philoxInto(
  out: Uint32Array,
  c0: number,
  c1: number,
  c2: number,
  c3: number,
  k0: number,
  k1: number,
): void {
  for (let round = 0; round < 10; round++) {
    const high0 = mulHigh(0xd2511f53, c0);
    const low0 = Math.imul(0xd2511f53, c0) >>> 0;
    const high1 = mulHigh(0xcd9e8d57, c2);
    const low1 = Math.imul(0xcd9e8d57, c2) >>> 0;
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0;
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/**
 * One block of Philox4x32-10: 128 random bits as a pure function of a 128-bit counter and a 64-bit key, each given as 32-bit
 * words, lowest first. Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC'11, section 3.3.
 */
export function philox4x32(counter: ArrayLike<number>, key: ArrayLike<number>): Uint32Array {
  const out = new Uint32Array(4);
  philoxInto(out, counter[0], counter[1], counter[2], counter[3], key[0], key[1]);
  return out;
}

function words(value: number, what: string): [number, number] {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new UsageError(`${what} must be a whole number from 0 to 2^53 - 1, found ${value}`);
  }
  return [value >>> 0, Math.floor(value / TWO32)];
}

/**
 * A stream of random numbers that depends on nothing but its constructor's arguments.
 *
 * Layout: the key starts as the two words of `seed`; each stream number s, the i-th from 1, replaces it by the first two words of
 * `philox4x32([low(s), high(s), i, 0xffffffff], key)`. Block n of the stream is `philox4x32([low(n), high(n), 0, 0], key)`, read
 * from word 0 to word 3. Streams of different numbers, or different counts of them, do not meet.
 *
 * Throws UsageError when the seed or a stream number is not a whole number in 0 … 2^53 - 1.
 */
export class Random {
  /** The derived 64-bit key, low word first: what a kernel needs to draw from the same family. */
  readonly key: readonly [number, number];
  #block = 0;
  #used = 4;
  #spare = Number.NaN;
  readonly #words = new Uint32Array(4);

  constructor(seed: number, ...stream: number[]) {
    let key = words(seed, "a random seed");
    for (let i = 0; i < stream.length; i++) {
      const [low, high] = words(stream[i], "a random stream number");
      philoxInto(this.#words, low, high, i + 1, 0xffffffff, key[0], key[1]);
      key = [this.#words[0], this.#words[1]];
    }
    this.key = key;
  }

  /** A whole number, uniform in 0 … 2^32 - 1. */
  uint32(): number {
    if (this.#used === 4) {
      const block = this.#block++;
      philoxInto(this.#words, block >>> 0, Math.floor(block / TWO32), 0, 0, this.key[0], this.key[1]);
      this.#used = 0;
    }
    return this.#words[this.#used++];
  }

  /** Uniform in [0, 1), in steps of 2^-32. */
  uniform(): number {
    return this.uint32() / TWO32;
  }

  /** Uniform in [low, high). */
  between(low: number, high: number): number {
    return low + (high - low) * this.uniform();
  }

  /** A whole number, uniform in 0 … n - 1 without bias. `n` is 1 … 2^32. */
  below(n: number): number {
    if (!Number.isInteger(n) || n < 1 || n > TWO32) {
      throw new UsageError(`Random.below takes a whole number from 1 to 2^32, found ${n}`);
    }
    // The top 2^32 mod n values would make the small results likelier, so they are drawn again.
    const limit = TWO32 - (TWO32 % n);
    for (;;) {
      const value = this.uint32();
      if (value < limit) return value % n;
    }
  }

  /** Standard normal (Box and Muller, 1958); both numbers of a pair are used. */
  normal(): number {
    if (!Number.isNaN(this.#spare)) {
      const spare = this.#spare;
      this.#spare = Number.NaN;
      return spare;
    }
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    const angle = 2 * Math.PI * this.uniform();
    this.#spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  /** 0 … n - 1 in random order (Fisher and Yates). */
  permutation(n: number): Uint32Array {
    const order = Uint32Array.from({ length: n }, (_, i) => i);
    for (let i = n - 1; i > 0; i--) {
      const j = this.below(i + 1);
      const held = order[i];
      order[i] = order[j];
      order[j] = held;
    }
    return order;
  }
}
