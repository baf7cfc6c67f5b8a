import { type Cell, formatCells, isNumeric } from "../report/cells.ts";
import { visibleWidth } from "./style.ts";

export interface Column {
  header: string;
  /** Default: right when every filled cell of the column is a number, else left. */
  align?: "left" | "right";
  /** Digits after the decimal point of numbers that are not integers; default 4. */
  digits?: number;
}

/**
 * A plain text table: header, rule, one line per row, two spaces between columns, closing newline.
 * A missing cell prints `-`, NaN prints `nan`. Where a column holds one fraction all its numbers get the same digits.
 */
export function formatTable(
  columns: readonly (string | Column)[],
  rows: readonly (readonly Cell[])[],
  indent = "",
): string {
  const specs = columns.map((column) => (typeof column === "string" ? { header: column } : column));
  const values = specs.map((_, c) => rows.map((row) => row[c]));
  const texts = specs.map((spec, c) => formatCells(values[c], spec.digits));
  const widths = specs.map((spec, c) => Math.max(visibleWidth(spec.header), ...texts[c].map(visibleWidth)));
  const right = specs.map((spec, c) =>
    spec.align === undefined ? isNumeric(values[c]) : spec.align === "right",
  );
  const line = (cells: readonly string[]) => {
    const padded = cells.map((cell, c) => {
      const space = " ".repeat(widths[c] - visibleWidth(cell));
      return right[c] ? space + cell : cell + space;
    });
    return `${indent}${padded.join("  ")}`.trimEnd();
  };
  const lines = [
    line(specs.map((spec) => spec.header)),
    line(widths.map((width) => "─".repeat(width))),
    ...rows.map((_, r) => line(texts.map((column) => column[r]))),
  ];
  return `${lines.join("\n")}\n`;
}

/** Bytes in binary units with three significant digits: `0 B`, `1023 B`, `1.50 KiB`, `12.3 GiB`. */
export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let value = bytes;
  let unit = 0;
  // 1023.5 would round to "1024" in its own unit.
  while (Math.abs(value) >= 1023.5 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  const size = Math.abs(value);
  const digits = unit === 0 || size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2;
  return `${value.toFixed(digits)} ${units[unit]}`;
}

/** A count with a comma between thousands: `9,448,866`. */
export function formatCount(count: number): string {
  return count.toLocaleString("en-US", { maximumFractionDigits: 0 });
}
