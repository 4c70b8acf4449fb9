// Curves of hours: for each level the greatest of every four values below, so that any stretch is drawn in few steps.

import { after } from "./dom.js";

const TOGETHER = 4;

/** Curves over the same increasing times; each value holds until the next time. */
export class Pyramid {
  /**
   * @param {number[]} times seconds, increasing.
   * @param {number} end when the last value ends.
   * @param {number[][]} curves one array of values for each curve.
   */
  constructor(times, end, curves) {
    this.end = end;
    this.levels = [{ times: Float64Array.from(times), curves: curves.map((curve) => Float32Array.from(curve)) }];
    while (this.levels.at(-1).times.length > TOGETHER) this.levels.push(coarser(this.levels.at(-1)));
    this.most = Math.max(1e-6, ...this.levels.at(-1).curves.flatMap((curve) => [...curve]));
  }

  /** Return {times, curves, from, to}: a level with at most `most` values in [start, end], and which of them those are. */
  between(start, end, most) {
    for (const { times, curves } of this.levels) {
      const from = Math.max(0, after(times, start) - 1);
      const to = after(times, end);
      if (to - from <= most || times.length <= TOGETHER) return { times, curves, from, to };
    }
    throw new Error("the last level has few values");
  }
}

function coarser({ times, curves }) {
  const count = Math.ceil(times.length / TOGETHER);
  const less = { times: new Float64Array(count), curves: curves.map(() => new Float32Array(count)) };
  for (let i = 0; i < count; i += 1) {
    const [from, to] = [i * TOGETHER, Math.min(times.length, (i + 1) * TOGETHER)];
    less.times[i] = times[from];
    curves.forEach((curve, c) => {
      let most = curve[from];
      for (let j = from + 1; j < to; j += 1) if (curve[j] > most) most = curve[j];
      less.curves[c][i] = most;
    });
  }
  return less;
}
