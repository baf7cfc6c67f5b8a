export type Rgb = readonly [red: number, green: number, blue: number];

/** Okabe and Ito's colours that stay apart for colour-blind readers, in the order that reads best over grey. */
const CLASS_COLOURS: readonly Rgb[] = [
  [230, 159, 0],
  [86, 180, 233],
  [0, 158, 115],
  [240, 228, 66],
  [213, 94, 0],
  [204, 121, 167],
  [0, 114, 178],
];

/** Colour of label `label` (1, 2, ...; 0 is background and has none), 8 bits a channel. Repeats, paler, after seven. */
export function classColour(label: number): Rgb {
  const base = CLASS_COLOURS[(label - 1) % CLASS_COLOURS.length];
  const round = Math.floor((label - 1) / CLASS_COLOURS.length);
  const pale = 1 - 0.6 ** round;
  return [mix(base[0], pale), mix(base[1], pale), mix(base[2], pale)];
}

function mix(channel: number, pale: number): number {
  return Math.round(channel + (255 - channel) * pale);
}

/** `#rrggbb`. */
export function hex([red, green, blue]: Rgb): string {
  return `#${[red, green, blue].map((channel) => channel.toString(16).padStart(2, "0")).join("")}`;
}

/** Line colours on a light page, and the same hues lifted for a dark one. */
export const LINE_COLOURS: readonly { light: string; dark: string }[] = [
  { light: "#0072b2", dark: "#5ab4f0" },
  { light: "#c75200", dark: "#ff9147" },
  { light: "#00805e", dark: "#3ecf9f" },
  { light: "#a8487f", dark: "#eb9fc9" },
  { light: "#946800", dark: "#f0b93a" },
  { light: "#5b5fc7", dark: "#a9acff" },
];
