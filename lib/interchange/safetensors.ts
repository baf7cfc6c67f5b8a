import { counted, DataError } from "../errors.ts";
import type { TypedArray } from "../graph/state.ts";
import { type DType, elements } from "../graph/value.ts";

/** Tensors by name with free-form text beside them: the contents of a safetensors file. */
export interface TensorFile {
  readonly tensors: ReadonlyMap<string, { readonly shape: readonly number[]; readonly data: TypedArray }>;
  readonly metadata: Readonly<Record<string, string>>;
}

const names: Readonly<Record<DType, string>> = { f32: "F32", u8: "U8", i32: "I32", bf16: "BF16" };
const arrays = { F32: Float32Array, U8: Uint8Array, I32: Int32Array, BF16: Uint16Array } as const;

function nameOf(data: TypedArray): string {
  if (data instanceof Float32Array) return names.f32;
  if (data instanceof Uint16Array) return names.bf16;
  return data instanceof Uint8Array ? names.u8 : names.i32;
}

/** The bytes of a file, in pieces: the length of the header, the header, the tensors one after another. */
export function* encodeSafetensors({ tensors, metadata }: TensorFile): Generator<Uint8Array> {
  const header: Record<string, unknown> = { __metadata__: metadata };
  let offset = 0;
  for (const [name, { shape, data }] of tensors) {
    header[name] = { dtype: nameOf(data), shape, data_offsets: [offset, offset + data.byteLength] };
    offset += data.byteLength;
  }
  const json = JSON.stringify(header);
  // The format allows spaces behind the header, which keep the tensors aligned.
  const text = new TextEncoder().encode(json + " ".repeat(-Buffer.byteLength(json) & 7));
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(text.length), true);
  yield length;
  yield text;
  for (const { data } of tensors.values())
    yield new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/** Reads a file's bytes; `path` is for messages. Throws `DataError` when they do not hold what they announce. */
export function decodeSafetensors(bytes: Uint8Array, path: string): TensorFile {
  const fail = (why: string) => new DataError(path, `not a readable safetensors file: ${why}`);
  if (bytes.length < 8) throw fail(`expected at least 8 bytes, found ${bytes.length}`);
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  if (length > bytes.length - 8)
    throw fail(`a header of ${counted(length, "byte")} in a file of ${bytes.length}`);
  let header: Record<string, unknown>;
  try {
    header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length))) as Record<string, unknown>;
  } catch (error) {
    throw fail(`its header is not JSON (${(error as Error).message})`);
  }
  const body = bytes.subarray(8 + length);
  const { __metadata__: metadata = {}, ...entries } = header;
  const tensors = new Map(
    Object.entries(entries).map(([name, entry]) => [name, decodeTensor(name, entry, body, fail)]),
  );
  return { tensors, metadata: metadata as Record<string, string> };
}

function decodeTensor(
  name: string,
  entry: unknown,
  body: Uint8Array,
  fail: (why: string) => DataError,
): { shape: number[]; data: TypedArray } {
  const { dtype, shape, data_offsets } = entry as {
    dtype?: unknown;
    shape?: unknown;
    data_offsets?: unknown;
  };
  const isCounts = (list: unknown): list is number[] =>
    Array.isArray(list) && list.every((n) => Number.isSafeInteger(n) && (n as number) >= 0);
  if (!isCounts(shape) || !isCounts(data_offsets) || data_offsets.length !== 2)
    throw fail(`tensor "${name}" has no proper shape and data_offsets`);
  if (typeof dtype !== "string" || !(dtype in arrays))
    throw fail(`tensor "${name}" is ${String(dtype)}; readable are ${Object.keys(arrays).join(", ")}`);
  const Array_ = arrays[dtype as keyof typeof arrays];
  const [begin, end] = data_offsets;
  if (end > body.length || end - begin !== elements(shape) * Array_.BYTES_PER_ELEMENT)
    throw fail(
      `tensor "${name}" [${shape.join(",")}] does not fit its bytes ${begin} to ${end} of ${body.length}`,
    );
  return { shape, data: new Array_(new Uint8Array(body.subarray(begin, end)).buffer) };
}
