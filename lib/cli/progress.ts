import { paint, visibleWidth, type Writer } from "./style.ts";

export interface ProgressOptions {
  /** Steps in all. */
  total: number;
  /** Stands before the bar: `train`, `predict case_07`. */
  label: string;
  /** What is counted, in the singular; default `step`. */
  unit?: string;
  /** Steps that were done before this process began (a resumed run); they do not count for the rate. */
  start?: number;
  /** Milliseconds on a clock that only goes forward; default `performance.now`. */
  now?: () => number;
  /** Milliseconds before the first plain line where there is no terminal; default 30 s. */
  firstLine?: number;
}

interface Mark {
  time: number;
  done: number;
}

const REDRAW_MS = 100;
const MARK_MS = 1000;
const MARKS = 20;
const BAR_WIDTH = 20;
/** Between the plain lines of a stream that is no terminal: a few an hour would look like a hang, one a step like noise. */
const LINE_MS = 30_000;

/**
 * A progress line that redraws itself on a terminal, at most ten times a second, and is never wider than it.
 * On anything else a plain line comes out every 30 seconds, beside what `log` says.
 */
export class Progress {
  private readonly stream: Writer;
  private readonly total: number;
  private readonly label: string;
  private readonly unit: string;
  private readonly now: () => number;
  private readonly marks: Mark[];
  private latest: Mark;
  private extra = "";
  private drawnAt = Number.NEGATIVE_INFINITY;
  private lineDue: number;
  private visible = false;

  constructor(stream: Writer, options: ProgressOptions) {
    this.stream = stream;
    this.total = options.total;
    this.label = options.label;
    this.unit = options.unit ?? "step";
    this.now = options.now ?? (() => performance.now());
    this.latest = { time: this.now(), done: options.start ?? 0 };
    this.marks = [this.latest];
    this.lineDue = this.latest.time + (options.firstLine ?? LINE_MS);
  }

  /** Says that `done` steps of the total are complete; `extra` is shown behind the time left. */
  update(done: number, extra = ""): void {
    this.latest = { time: this.now(), done };
    this.extra = extra;
    if (this.latest.time - this.marks[this.marks.length - 1].time >= MARK_MS) {
      this.marks.push(this.latest);
      if (this.marks.length > MARKS) this.marks.shift();
    }
    if (!this.stream.isTTY) this.writeLine();
    else if (this.latest.time - this.drawnAt >= REDRAW_MS || done >= this.total) this.draw();
  }

  /** Prints a line that stays, above the progress line. */
  log(line: string): void {
    const wasVisible = this.visible;
    this.clear();
    this.stream.write(`${line}\n`);
    if (wasVisible) this.draw();
  }

  /** Takes the progress line away; on a terminal `finalText` stands in its place. Further updates may follow. */
  done(finalText?: string): void {
    this.clear();
    if (finalText !== undefined && this.stream.isTTY) this.stream.write(`${finalText}\n`);
  }

  /** The line as it would be drawn now, without colour and not clipped. */
  toString(): string {
    const filled = Math.round(this.fraction() * BAR_WIDTH);
    return this.describe(`${this.label} ${"█".repeat(filled)}${"░".repeat(BAR_WIDTH - filled)}`);
  }

  private describe(head: string): string {
    // Rounded down: 100% is said only when all is done.
    const percent = `${Math.floor(this.fraction() * 100)}%`.padStart(4);
    const parts = [`${head}${percent}  ${this.latest.done}/${this.total}`];
    const pace = this.pace();
    if (pace !== "") parts.push(pace);
    if (this.extra !== "") parts.push(this.extra);
    return parts.join("  ");
  }

  /** Rate and time left, `1.25 steps/s  3 min 05 s left`; empty while nothing is known. */
  pace(): string {
    const rate = this.rate();
    if (rate <= 0) return "";
    const left = this.total - this.latest.done;
    return formatRate(rate, this.unit) + (left > 0 ? `  ${duration(left / rate)} left` : "");
  }

  /** Steps per second over about the last twenty seconds; 0 while nothing is known. */
  private rate(): number {
    const from = this.marks[0];
    const seconds = (this.latest.time - from.time) / 1000;
    return seconds > 0 ? (this.latest.done - from.done) / seconds : 0;
  }

  private fraction(): number {
    return this.total > 0 ? Math.min(1, Math.max(0, this.latest.done / this.total)) : 1;
  }

  private writeLine(): void {
    const { time, done } = this.latest;
    if (time < this.lineDue || done >= this.total) return;
    this.lineDue = time + LINE_MS;
    this.stream.write(`${this.describe(this.label)}\n`);
  }

  private draw(): void {
    this.drawnAt = this.latest.time;
    this.visible = true;
    // One column stays free: a full line makes some terminals wrap. One that does not know its width says 0.
    const text = clip(this.toString(), Math.max(1, (this.stream.columns || 80) - 1));
    const coloured = text.replace(/█+/, (bar) => paint(this.stream, "cyan", bar));
    this.stream.write(`\r${coloured}\x1b[K`);
  }

  private clear(): void {
    if (this.visible) this.stream.write("\r\x1b[K");
    this.visible = false;
  }
}

function clip(text: string, width: number): string {
  return visibleWidth(text) <= width ? text : `${[...text].slice(0, width - 1).join("")}…`;
}

function formatRate(perSecond: number, unit: string): string {
  if (perSecond < 1) return `${(1 / perSecond).toPrecision(3)} s/${unit}`;
  return `${perSecond >= 100 ? perSecond.toFixed(0) : perSecond.toPrecision(3)} ${unit}s/s`;
}

/** Seconds as a person says them: `4.2 s`, `42 s`, `3 min 05 s`, `2 h 03 min`, `3 d 04 h`; `?` when not finite. */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return "?";
  if (seconds < 9.95) return `${Math.max(0, seconds).toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const two = (value: number) => String(value).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 1440) return `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`;
  const hours = Math.floor(minutes / 60);
  return `${Math.floor(hours / 24)} d ${two(hours % 24)} h`;
}
