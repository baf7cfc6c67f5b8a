/** One value of a table; null and undefined are missing ones. */
export type Cell = string | number | null | undefined;

/**
 * The cells of one column as text. A missing cell is `-`, NaN is `nan`. Where one number has a fraction, all of the
 * column's numbers get `digits` digits after the decimal point; whole numbers get commas between thousands.
 */
export function formatCells(cells: readonly Cell[], digits = 4): string[] {
  const fractional = cells.some((cell) => Number.isFinite(cell) && !Number.isInteger(cell));
  return cells.map((cell) => {
    if (cell === null || cell === undefined) return "-";
    if (typeof cell === "string") return cell;
    if (Number.isNaN(cell)) return "nan";
    if (!Number.isFinite(cell)) return cell > 0 ? "inf" : "-inf";
    return fractional ? cell.toFixed(digits) : cell.toLocaleString("en-US");
  });
}

/** Whether every filled cell of a column is a number, so that the column reads best right-aligned. */
export function isNumeric(cells: readonly Cell[]): boolean {
  const filled = cells.filter((cell) => cell !== null && cell !== undefined);
  return filled.length > 0 && filled.every((cell) => typeof cell === "number");
}
