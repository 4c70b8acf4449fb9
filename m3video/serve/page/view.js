// Which part of a video is in view, and where a time stands in it.

import { clock } from "./dom.js";

const STEPS = [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400];
const TICK_ROOM = 76;
const LEAST_SECONDS = 0.25;

/** A stretch [from, to] of a video of [start, end] seconds, on `width` pixels with `margin` free at both ends. */
export class View {
  constructor(start, end) {
    this.start = start;
    this.end = Math.max(end, start + LEAST_SECONDS);
    this.width = 100;
    this.margin = 10;
    this.whole();
  }

  whole() {
    [this.from, this.to] = [this.start, this.end];
  }

  get seconds() {
    return this.to - this.from;
  }

  get perSecond() {
    return (this.width - 2 * this.margin) / this.seconds;
  }

  x(time) {
    return this.margin + (time - this.from) * this.perSecond;
  }

  time(x) {
    return this.from + (x - this.margin) / this.perSecond;
  }

  /** Zoom by a factor (above 1: nearer), so that what stands at `x` stays there. */
  zoom(factor, x) {
    const fixed = this.time(x);
    const seconds = Math.min(this.end - this.start, Math.max(LEAST_SECONDS, this.seconds / factor));
    const share = (fixed - this.from) / this.seconds;
    this.from = fixed - share * seconds;
    this.to = this.from + seconds;
    this.pan(0);
  }

  pan(seconds) {
    const length = this.seconds;
    this.from = Math.min(Math.max(this.start, this.from + seconds), this.end - length);
    this.to = this.from + length;
  }

  /** Bring a time into view, with a tenth of the view beyond it. */
  show(time) {
    const edge = this.seconds / 10;
    if (time < this.from) this.pan(time - this.from - edge);
    else if (time > this.to) this.pan(time - this.to + edge);
  }

  /** Return [time, words] of round clock times in view. */
  ticks() {
    const most = Math.max(1, Math.floor((this.width - 2 * this.margin) / TICK_ROOM));
    const step = STEPS.find((one) => this.seconds / one <= most) ?? Math.ceil(this.seconds / most / 3600) * 3600;
    const found = [];
    for (let i = Math.ceil(this.from / step - 1e-9); i * step <= this.to + 1e-9; i += 1) found.push([i * step, clock(i * step)]);
    return found;
  }
}
