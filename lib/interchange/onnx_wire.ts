/**
 * The wire format of protocol buffers, as far as ONNX files need it. A message is a list of pieces, so that weights are
 * written from where they lie and never copied into their message.
 */
export type Wire = readonly Uint8Array[];

const text = new TextEncoder();
const kinds = { varint: 0, bytes: 2, float: 5 } as const;

/** Seven bits a byte, the lowest first, the top bit saying that more follow. */
function digits(value: number): number[] {
  const found: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) found.push((rest % 128) + 128);
  return [...found, rest];
}

function tag(field: number, kind: keyof typeof kinds): number[] {
  return digits(field * 8 + kinds[kind]);
}

export function wireLength(wire: Wire): number {
  return wire.reduce((total, piece) => total + piece.length, 0);
}

/** A whole number from 0 to 2^53 - 1. */
export function integerField(field: number, value: number): Wire {
  if (!Number.isSafeInteger(value) || value < 0)
    throw new RangeError(`expected a whole number from 0, found ${value}`);
  return [Uint8Array.from([...tag(field, "varint"), ...digits(value)])];
}

export function floatField(field: number, value: number): Wire {
  const bytes = new DataView(new ArrayBuffer(4));
  bytes.setFloat32(0, value, true);
  return [Uint8Array.from(tag(field, "float")), new Uint8Array(bytes.buffer)];
}

export function textField(field: number, value: string): Wire {
  return messageField(field, [text.encode(value)]);
}

/** A message, or bytes, inside of another one. */
export function messageField(field: number, ...parts: readonly Wire[]): Wire {
  const pieces = parts.flat();
  return [Uint8Array.from([...tag(field, "bytes"), ...digits(wireLength(pieces))]), ...pieces];
}
