// The budget: a slider that plans again, pins, the range, and what the plan costs and proves.

import { address, json } from "./api.js";
import { byId, clock, counted, el, notice } from "./dom.js";

const STEPS = 1000;
const PRESETS = [36, 144, 360, 720, 1440, 2880];
const CHANGEABLE = ["budget", "start", "end", "every_shot", "max_gap"];
const OF_A_PLAN = ["set-start", "set-end", "pin"];
const LIMITS = {
  "--budget": "the budget", "--detail": "the detail", "--at": "the pinned frame", "--start": "the start", "--end": "the end", "--every-shot": "the frames of every shot",
  "--max-gap": "the gap", "--max-frames": "the number of candidate frames", "--fps": "the rate of frames",
  "--num-frames": "the number of frames",
};

export class Plan extends EventTarget {
  constructor() {
    super();
    byId("budget").addEventListener("input", () => this.change({ budget: this.fromSlider() }));
    byId("budget-number").addEventListener("change", (event) => {
      const value = Math.round(Number(event.target.value));
      if (value >= 1) this.change({ budget: value });
      else event.target.value = this.settings.budget;
    });
    byId("every-shot").addEventListener("change", (event) => this.change({ every_shot: event.target.checked }));
    byId("max-gap").addEventListener("change", (event) => this.change({ max_gap: Number(event.target.value) || null }));
    byId("saliency").addEventListener("change", (event) => { this.saliency = event.target.value; });
    this.close();
  }

  close() {
    Object.assign(this, { row: null, record: null, most: 0, settings: {}, base: null, pins: [], isWanted: false });
    this.saliency = "off";
    byId("saliency").value = "off";
    byId("every-shot").checked = false;
    byId("max-gap").value = "";
    for (const id of ["plan", "facts-box"]) byId(id).hidden = true;
    for (const id of OF_A_PLAN) byId(id).disabled = true;
    byId("pins").replaceChildren();
    notice(byId("plan-notice"), "");
  }

  /** Begin with a video that was looked at, and the notes on that look. */
  open(row, notes) {
    Object.assign(this, { row, notes });
    byId("plan").hidden = false;
    for (const id of OF_A_PLAN) byId(id).disabled = false;
    this.change({});
  }

  /** Return the settings that differ from those of the server, as it takes them. */
  wanted() {
    const changed = Object.entries(this.settings).filter(([name, value]) => value !== this.base?.[name]);
    return Object.fromEntries(this.pins.length ? [...changed, ["at", this.pins.map((time) => time.toFixed(6)).join(", ")]] : changed);
  }

  /** Return the settings for a question. */
  forQuestion() {
    return this.base && this.saliency !== this.base.saliency ? { ...this.wanted(), saliency: this.saliency } : this.wanted();
  }

  /** Take the settings of the server from the first plan. */
  begin({ config }) {
    this.base = config;
    this.settings = Object.fromEntries(CHANGEABLE.map((name) => [name, config[name]]));
    this.saliency = byId("saliency").value = config.saliency;
    byId("every-shot").checked = config.every_shot;
    byId("max-gap").value = config.max_gap ?? "";
    this.dispatchEvent(new Event("settings"));
  }

  get range() {
    return Object.fromEntries(["start", "end"].filter((name) => typeof this.settings[name] === "number").map((name) => [name, this.settings[name]]));
  }

  setRange({ start, end }) {
    const { first, last } = this;
    // An edge at the end of the video is none.
    this.change({ start: start > first + 0.01 ? start : null, end: end < last - 0.01 ? end : null });
  }

  togglePin(time) {
    const near = this.pins.findIndex((pin) => Math.abs(pin - time) < 0.02);
    if (near >= 0) this.pins.splice(near, 1);
    else this.pins.push(time);
    this.pins.sort((a, b) => a - b);
    this.change({});
  }

  change(changes) {
    Object.assign(this.settings, changes);
    this.drawControls();
    this.dispatchEvent(new Event("settings"));
    this.isWanted = true;
    if (!this.isBusy) this.run();
  }

  /** Plan until the latest settings are planned: one request at a time, none for settings that were left meanwhile. */
  async run() {
    this.isBusy = true;
    while (this.isWanted && this.row) {
      this.isWanted = false;
      const { row } = this;
      try {
        const record = await json("POST", "/api/plan", { body: { video: row.name, settings: this.wanted() } });
        if (row !== this.row) continue;
        this.record = record;
        this.most = Math.max(record.most_tokens, 1);
        if (!this.base) this.begin(record.plan);
        notice(byId("plan-notice"), "");
        this.drawControls();
        this.drawRecord();
        this.dispatchEvent(new Event("plan"));
      } catch (error) {
        if (row !== this.row) continue;
        if (error.code === "not_looked_at") this.dispatchEvent(new Event("stale"));
        else notice(byId("plan-notice"), inWords(error.message), "bad");
      }
    }
    this.isBusy = false;
  }

  fromSlider() {
    const share = Number(byId("budget").value) / STEPS;
    return Math.max(1, Math.round(Math.exp(share * Math.log(Math.max(2, this.most)))));
  }

  drawControls() {
    const { budget } = this.settings;
    if (!budget) return; // the server's, which is not known yet
    const slider = byId("budget");
    if (this.most) {
      const place = Math.round((STEPS * Math.log(Math.max(1, budget))) / Math.log(Math.max(2, this.most)));
      if (this.fromSlider() !== budget) slider.value = Math.min(STEPS, place);
    }
    slider.setAttribute("aria-valuetext", counted(budget, "token"));
    if (document.activeElement !== byId("budget-number") || Number(byId("budget-number").value) !== budget) byId("budget-number").value = budget;
    this.drawPresets(budget);
    byId("pins").replaceChildren(...this.pins.map((time) => el("li", {}, `pinned ${clock(time)} `,
      el("button", { type: "button", onclick: () => this.togglePin(time), "aria-label": `Unpin ${clock(time)}` }, "×"))));
  }

  drawPresets(budget) {
    const place = byId("presets");
    const presets = [...PRESETS.filter((one) => one < this.most), this.most].filter(Boolean);
    if (String(presets) !== place.dataset.presets) { // else the button that was pressed would lose the focus
      place.dataset.presets = String(presets);
      place.replaceChildren(...presets.map((one) => el("button", {
        type: "button", onclick: () => this.change({ budget: one }), dataset: { budget: one },
        title: one === this.most ? "With more tokens nothing changes" : `${one} tokens`,
      }, one === this.most ? `all useful: ${one.toLocaleString("en")}` : one.toLocaleString("en"))));
    }
    for (const button of place.children) button.setAttribute("aria-pressed", String(Number(button.dataset.budget) === budget));
  }

  drawRecord() {
    const { plan, limits, memory, answer_seconds: seconds } = this.record;
    const gap = plan.method === "gap" ? `at most ${(100 * plan.gap).toPrecision(2)}% from the best plan` : "the proven best plan";
    const binds = limits.length ? `limited by ${limits.map(limitText).join(" and by ")}` : "no limit binds";
    const costs = [seconds === null ? null : `${seconds < 10 ? seconds.toPrecision(2) : Math.round(seconds)} s`,
      memory === null ? null : `${memory} of memory, the model included`].filter(Boolean);
    const cost = costs.length ? ` An answer takes about ${costs.join(" and ")}.` : "";
    byId("spent").replaceChildren(el("strong", {}, `${plan.total_tokens.toLocaleString("en")} of ${counted(plan.budget, "token")}`),
      ` on ${counted(plan.frames.length, "frame")}: ${gap}; ${binds}.${cost}`);
    byId("facts-box").hidden = false;
    byId("facts").replaceChildren(...this.record.facts.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]));
    const notes = [...this.notes, ...plan.warnings];
    byId("facts-box").querySelector("summary").textContent = `About this plan${notes.length ? `, ${counted(notes.length, "note")}` : ""}`;
    byId("plan-notes").replaceChildren(...notes.map((line) => el("li", {}, line)));
  }
}

/** Return a line of the server with the page's words for the command's flags. */
const inWords = (line) => line.replace(/--([a-z-]+)/g, (flag) => LIMITS[flag] ?? flag.slice(2).replaceAll("-", " "));

/** Return a limit in words, with the utility that it costs; the server names the flag that lifts it. */
function limitText({ name, gain }) {
  const flag = name.split(" ")[0];
  const words = LIMITS[flag] ?? flag;
  return gain === null ? words : `${words} (without it ${(100 * gain).toPrecision(2)}% more utility)`;
}

/** Make the first pass over a video, shown in the place "look"; return whether it is ready (false: cancelled or left). */
export async function look(row, isLeft) {
  const place = byId("look");
  let isCancelled = false;
  const cancel = el("button", { type: "button", onclick: () => {
    isCancelled = true;
    json("DELETE", address("/api/look", { video: row.name })).catch(() => {});
  } }, "Cancel");
  const words = el("span", {}, "Looking at the video…");
  const bar = el("progress", { "aria-label": "First pass" });
  for (;;) {
    let state;
    try {
      state = await json("POST", "/api/look", { body: { video: row.name } });
    } catch (error) {
      if (isLeft()) return false;
      place.hidden = false;
      await new Promise((again) => { notice(place, error.message, "bad", ["Try again", again]); });
      isCancelled = false;
      place.replaceChildren();
      continue;
    }
    if (isLeft()) return false;
    if (state.state === "ready") {
      place.hidden = true;
      place.replaceChildren();
      return true;
    }
    if (isCancelled) {
      // What the loop has just started again is ended too.
      await json("DELETE", address("/api/look", { video: row.name })).catch(() => {});
      place.hidden = false;
      await new Promise((again) => { notice(place, "The video was not looked at: there is no plan and no curve.", "", ["Look at it", again]); });
      isCancelled = false;
      place.replaceChildren();
      continue;
    }
    if (!place.contains(bar)) place.replaceChildren(el("p", { className: "notice busy" }, words, bar, cancel));
    place.hidden = false;
    words.textContent = state.state === "waiting" ? "Waiting for its turn to be looked at…"
      : `Looking at the video: ${state.stage}${state.total ? ` ${state.done.toLocaleString("en")} of ${state.total.toLocaleString("en")} frames` : ""}`;
    if (state.total) Object.assign(bar, { max: state.total, value: state.done });
    else bar.removeAttribute("value");
    await new Promise((next) => { setTimeout(next, 250); });
  }
}
