// The timeline: shots, frames shown, complexity and what was not looked at, on a canvas. Only what is in view is drawn.

import { address } from "./api.js";
import { after, byId, clock } from "./dom.js";
import { Pyramid } from "./pyramid.js";
import { View } from "./view.js";

const LANES = { ruler: [0, 20], shots: [20, 74], bars: [78, 158], curve: [164, 222] };
export const HEIGHT = 230;
const LEAST_BAR = 3;
const LEAST_SHOT = 16;
const THUMB_SIDE = 160;
const MOST_LOADING = 3;

export class Timeline extends EventTarget {
  constructor() {
    super();
    this.place = byId("timeline");
    this.canvas = this.place.querySelector("canvas");
    this.context = this.canvas.getContext("2d");
    this.layer = document.createElement("canvas");
    this.cursor = 0;
    this.reset();
    new ResizeObserver(() => this.resize()).observe(this.place);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.recolour());
    this.recolour();
  }

  reset() {
    Object.assign(this, { row: null, data: null, plan: null, leftOut: [], frames: [], marks: [], pins: [], range: {} });
    this.thumbs = new Map();
    this.loading = 0;
    this.view = new View(0, 1);
    this.view.width = this.place.clientWidth || 100;
    this.draw();
  }

  /** Show a video of which only the length is known yet. */
  open(row, seconds) {
    this.reset();
    this.row = row;
    this.setView(0, seconds);
  }

  /** Show what the first pass saw, as /api/timeline returns it. */
  setData(data) {
    this.data = data;
    this.pyramid = new Pyramid(data.times, data.end, Object.values(data.lost));
    this.setView(data.start, data.end);
  }

  setView(start, end) {
    this.view = new View(start, end);
    this.view.width = this.place.clientWidth || 100;
    this.draw();
    this.tell();
  }

  /** Show a plan, as /api/plan returns it. */
  setPlan(record) {
    this.plan = record.plan;
    this.frames = record.plan.frames;
    this.frameTimes = this.frames.map((frame) => frame.pts_seconds);
    this.leftOut = record.left_out;
    this.draw();
    this.tell();
  }

  /** Show marks, pins (times) and the range {start, end} of the plan. */
  set(parts) {
    Object.assign(this, parts);
    this.draw();
  }

  moveCursor(time, { follow = false } = {}) {
    this.cursor = time;
    if (follow && (time < this.view.from || time > this.view.to)) {
      this.view.show(time);
      this.draw();
    } else this.compose();
    // While it plays, the value changes once a second: who listens to it is not told of every frame.
    if (!follow || Math.floor(time) !== this.toldSecond) this.tell();
  }

  resize() {
    this.view.width = this.place.clientWidth || 100;
    this.draw();
  }

  recolour() {
    const style = getComputedStyle(document.documentElement);
    const named = (name) => style.getPropertyValue(`--${name}`).trim();
    this.colours = Object.fromEntries(["text", "faint", "line", "band", "back", "cursor", "left-out", "mark", "unseen"].map((name) => [name, named(name)]));
    this.draw();
  }

  /** Draw at the next frame of the screen; many calls before it are one. */
  draw() {
    if (this.isDue) return;
    this.isDue = true;
    requestAnimationFrame(() => {
      this.isDue = false;
      this.drawNow();
    });
  }

  drawNow() {
    const begun = performance.now();
    const ratio = devicePixelRatio || 1;
    const [width, height] = [Math.round(this.view.width * ratio), Math.round(HEIGHT * ratio)];
    for (const canvas of [this.canvas, this.layer]) if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = this.layer.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.view.width, HEIGHT);
    this.drawRuler(context);
    if (this.data) {
      this.drawShots(context);
      this.drawCurve(context);
    }
    if (this.plan) this.drawBars(context);
    this.drawRange(context);
    this.drawMarks(context);
    this.compose();
    this.drawMilliseconds = performance.now() - begun;
  }

  /** Put the cursor over what was drawn. */
  compose() {
    const { context, canvas } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.drawImage(this.layer, 0, 0);
    const ratio = devicePixelRatio || 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const x = this.view.x(this.cursor);
    if (x < 0 || x > this.view.width) return;
    context.fillStyle = this.colours.cursor;
    context.fillRect(Math.round(x) - 1, 0, 2, HEIGHT);
    context.beginPath();
    context.moveTo(x - 6, 0);
    context.lineTo(x + 6, 0);
    context.lineTo(x, 9);
    context.fill();
  }

  drawRuler(context) {
    const { view, colours } = this;
    context.font = "12px system-ui, sans-serif";
    context.textBaseline = "top";
    context.textAlign = "center";
    for (const [time, words] of view.ticks()) {
      const x = view.x(time);
      context.fillStyle = colours.line;
      context.fillRect(Math.round(x), LANES.ruler[1] - 4, 1, HEIGHT);
      context.fillStyle = colours.faint;
      const half = context.measureText(words).width / 2;
      context.fillText(words, Math.min(Math.max(x, half + 1), view.width - half - 1), 1);
    }
  }

  drawShots(context) {
    const { view, colours, data } = this;
    const [top, bottom] = LANES.shots;
    const { shots } = data;
    const height = bottom - top;
    const width = Math.round(height * Math.min(2.4, Math.max(0.5, data.width / data.height)));
    let band = -Infinity;
    const pictured = [];
    for (let i = Math.max(0, after(shots, view.from) - 1); i < shots.length && shots[i] <= view.to; i += 1) {
      const left = Math.max(view.x(shots[i]), 0);
      const right = Math.min(view.x(shots[i + 1] ?? data.end), view.width);
      if (right < band + 1) continue; // narrower than a pixel
      band = right;
      context.fillStyle = i % 2 ? colours.band : colours.back;
      context.fillRect(left, top, right - left, height);
      context.fillStyle = colours.line;
      const isWide = right - left >= LEAST_SHOT;
      context.fillRect(Math.round(left), top, 1, (isWide ? LANES.curve[1] : bottom) - top);
      const last = pictured.at(-1);
      if (!last || left >= last.left + width + 2) pictured.push({ i, left });
    }
    for (const { i, left } of pictured) this.drawThumb(context, i, left, top, width, height);
  }

  drawThumb(context, shot, x, y, width, height) {
    const start = this.data.shots[shot];
    const end = this.data.shots[shot + 1] ?? this.data.end;
    const picture = this.thumb(start + Math.min(1, (end - start) / 2));
    if (picture) context.drawImage(picture, x, y, width, height);
  }

  /** Return the picture of a time, or null while it is loaded. */
  thumb(time) {
    const key = time.toFixed(3);
    const known = this.thumbs.get(key);
    if (known) return known.isReady ? known : null;
    if (this.loading >= MOST_LOADING) return null; // asked for again when one has come
    const picture = new Image();
    const { thumbs } = this;
    const done = () => {
      if (thumbs !== this.thumbs) return; // of another video
      this.loading -= 1;
      this.draw();
    };
    this.loading += 1;
    thumbs.set(key, picture);
    picture.src = address("/api/frame", { video: this.row.name, at: key, side: THUMB_SIDE, v: this.row.version });
    // Decoded beforehand: else it would be when it is first drawn, in the middle of a pan.
    picture.decode().then(() => { picture.isReady = true; }, () => {}).then(done);
    return null;
  }

  drawBars(context) {
    const { view, colours, frames, data } = this;
    const [top, bottom] = LANES.bars;
    const from = Math.max(0, after(this.frameTimes, view.from) - 1);
    const to = after(this.frameTimes, view.to);
    const room = frames.length ? (0.5 * (view.width - 2 * view.margin)) / Math.max(1, to - from) : 0;
    const width = Math.min(12, Math.max(LEAST_BAR, room));
    for (const { pts_seconds: time } of this.leftOut) {
      if (time < view.from || time > view.to) continue;
      context.fillStyle = colours["left-out"];
      context.fillRect(view.x(time) - 1, bottom - 7, 2, 7);
    }
    // High bars first: none is hidden where bars are wider than the time between them.
    const order = Array.from({ length: to - from }, (_, i) => frames[from + i]).sort((a, b) => b.scale - a.scale);
    for (const frame of order) {
      const high = Math.max(5, ((bottom - top) * Math.sqrt(frame.scale)) / 24);
      context.fillStyle = data.colours[frame.scale];
      context.fillRect(view.x(frame.pts_seconds) - width / 2, bottom - high, width, high);
    }
    context.fillStyle = colours.line;
    context.fillRect(0, bottom, view.width, 1);
    for (const time of this.pins) {
      const x = view.x(time);
      context.fillStyle = colours.cursor;
      context.beginPath();
      context.arc(x, top + 3, 4, 0, 7);
      context.fill();
    }
  }

  drawCurve(context) {
    const { view, colours, data } = this;
    const [top, bottom] = LANES.curve;
    const { times, curves, from, to } = this.pyramid.between(view.from, view.to, view.width);
    const rise = (bottom - top) / this.pyramid.most;
    Object.keys(data.lost).forEach((scale, c) => {
      context.fillStyle = data.colours[scale];
      context.beginPath();
      context.moveTo(view.x(Math.max(view.from, times[from])), bottom);
      for (let i = from; i < to; i += 1) {
        const y = bottom - rise * curves[c][i];
        context.lineTo(view.x(Math.max(view.from, times[i])), y);
        context.lineTo(view.x(Math.min(view.to, times[i + 1] ?? data.end)), y);
      }
      context.lineTo(view.x(Math.min(view.to, times[to] ?? data.end)), bottom);
      context.fill();
    });
    context.fillStyle = colours.unseen;
    let last = -Infinity;
    const { unseen } = data;
    for (let i = Math.max(0, after(this.unseenStarts(), view.from) - 1); i < unseen.length && unseen[i][0] <= view.to; i += 1) {
      const [left, right] = unseen[i].map((time) => view.x(Math.min(view.to, Math.max(view.from, time))));
      if (right - last < 0.5) continue;
      context.fillRect(Math.max(left, last), bottom + 2, Math.max(0.5, right - Math.max(left, last)), 5);
      last = right;
    }
  }

  unseenStarts() {
    this.data.unseenStarts ??= this.data.unseen.map(([start]) => start);
    return this.data.unseenStarts;
  }

  drawRange(context) {
    const { view, colours, range } = this;
    const top = LANES.ruler[1];
    context.fillStyle = colours.back;
    context.globalAlpha = 0.75;
    if (range.start !== undefined) context.fillRect(0, top, view.x(range.start), HEIGHT - top);
    if (range.end !== undefined) context.fillRect(view.x(range.end), top, view.width, HEIGHT - top);
    context.globalAlpha = 1;
    context.fillStyle = colours.text;
    for (const [time, side] of [[range.start, 1], [range.end, -1]]) {
      if (time === undefined) continue;
      const x = view.x(time);
      context.fillRect(x - 1, top, 2, HEIGHT - top);
      context.fillRect(x, LANES.bars[0], 6 * side, 18);
    }
  }

  drawMarks(context) {
    const { view, colours } = this;
    context.fillStyle = colours.mark;
    for (const { start, until } of this.marks) {
      if ((until ?? start) < view.from || start > view.to) continue;
      const x = view.x(start);
      if (until) context.fillRect(x, LANES.ruler[1] - 4, Math.max(2, view.x(until) - x), 4);
      context.beginPath();
      context.moveTo(x, LANES.ruler[1]);
      context.lineTo(x - 5, LANES.ruler[1] - 9);
      context.lineTo(x + 5, LANES.ruler[1] - 9);
      context.fill();
    }
  }

  /** Return the frame on screen at a time that a plan shows, or null. */
  frameAt(time) {
    const i = this.plan ? after(this.frameTimes, time + 1e-3) - 1 : -1;
    return i < 0 ? null : this.frames[i];
  }

  /** Tell assistive technology where the cursor is. */
  tell() {
    const { place, view } = this;
    this.toldSecond = Math.floor(this.cursor);
    place.setAttribute("aria-valuemin", view.start.toFixed(2));
    place.setAttribute("aria-valuemax", view.end.toFixed(2));
    place.setAttribute("aria-valuenow", this.cursor.toFixed(2));
    const parts = [`${clock(Math.round(this.cursor * 10) / 10)} of ${clock(Math.round(view.end))}`];
    if (this.data) parts.push(`shot ${Math.max(1, after(this.data.shots, this.cursor))} of ${this.data.shots.length}`);
    const frame = this.frameAt(this.cursor);
    if (frame) parts.push(`latest frame shown at ${clock(frame.pts_seconds)} with ${frame.scale} tokens`);
    place.setAttribute("aria-valuetext", parts.join(", "));
  }
}
