// The page: a library of videos, and one video that is looked at, planned, asked about and marked.

import { Ask } from "./ask.js";
import { address, json } from "./api.js";
import { copyOf } from "./copy.js";
import { byId, clock, el, notice } from "./dom.js";
import { keyTable, listen as listenToKeys } from "./keys.js";
import { Library } from "./library.js";
import { Notes } from "./notes.js";
import { Plan, look } from "./plan.js";
import { Player } from "./player.js";
import { listen as listenToPointer } from "./pointer.js";
import { Timeline } from "./timeline.js";
import { shownTime, why } from "./why.js";

const library = new Library();
const player = new Player();
const timeline = new Timeline();
const plan = new Plan();
const ask = new Ask(plan);
const notes = new Notes();
let opened = null;

const seek = (event) => player.seek(event.detail.time);

const actions = {
  setStart: () => setRange({ ...plan.range, start: player.time }, "start"),
  setEnd: () => setRange({ ...plan.range, end: player.time }, "end"),
  clearRange: () => plan.change({ start: null, end: null }),
  pin: () => plan.row && plan.togglePin(shownTime(timeline.data, player.time)),
  mark: () => opened && notes.add(plan.range.start === undefined && plan.range.end === undefined ? { start: player.time }
    : { start: plan.range.start ?? timeline.view.start, until: plan.range.end ?? timeline.view.end }),
  write: () => byId(opened ? "question" : "search").focus(),
};

/** Set the range; an edge that passes the other one pushes it away. */
function setRange(range, moved = null) {
  if (!plan.row) return;
  const { start = timeline.view.start, end = timeline.view.end } = range;
  if (start < end) plan.setRange({ start, end });
  else plan.setRange(moved === "end" ? { start: timeline.view.start, end } : { start, end: timeline.view.end });
}

/** Say why the frame at the cursor is shown or not. */
function drawWhy() {
  byId("why").textContent = plan.record ? why(timeline.data, plan.record, player.time) : "";
}

player.addEventListener("time", () => {
  timeline.moveCursor(player.time, { follow: !player.element.paused });
  byId("now").textContent = clock(player.time);
  drawWhy();
});
player.element.addEventListener("loadedmetadata", () => {
  if (opened && !timeline.data) timeline.setView(0, player.length);
});
player.addEventListener("unplayable", async () => {
  const { row } = player;
  if (player.isCopy) notice(byId("stage-notice"), "This browser plays neither this file nor its copy: its frames are shown as pictures.", "bad");
  else if (await copyOf(row, () => player.row !== row)) player.openCopy();
});
timeline.addEventListener("seek", seek);
timeline.addEventListener("range", (event) => setRange(event.detail));
ask.addEventListener("seek", seek);
ask.addEventListener("mark", (event) => notes.add(event.detail));
ask.addEventListener("kept", () => notes.drawWhat());
notes.addEventListener("seek", seek);
notes.addEventListener("marks", (event) => timeline.set({ marks: event.detail.marks }));
plan.addEventListener("plan", () => {
  timeline.setPlan(plan.record);
  drawWhy();
});
plan.addEventListener("settings", () => {
  timeline.set({ range: plan.range, pins: plan.pins });
  byId("clear-range").hidden = plan.range.start === undefined && plan.range.end === undefined;
});
plan.addEventListener("stale", () => opened && prepare(opened));

listenToPointer(timeline);
const table = keyTable({ player, timeline, plan, actions });
listenToKeys(table, (key) => opened !== null || key === "?" || key === "/");
const press = (key) => table.find(([keys]) => keys.includes(key))[2]();
for (const [id, key] of [["zoom-in", "+"], ["zoom-out", "-"], ["zoom-all", "0"], ["set-start", "i"], ["set-end", "o"],
  ["clear-range", "x"], ["pin", "p"], ["mark", "m"], ["help", "?"]]) byId(id).addEventListener("click", () => press(key));

/** Draw what the colours mean. */
function drawLegend() {
  const { colours, unseen, lost } = timeline.data;
  const key = (name, words) => el("li", {}, el("i", { className: `key ${name}` }), words);
  byId("legend").replaceChildren(
    ...Object.entries(colours).map(([scale]) => key(`scale-${scale}`, `${scale}${scale === "576" ? " tokens" : ""}`)),
    key("left-out", "candidate left out"),
    ...(unseen.length ? [key("unseen-key", "judged by keyframes and packets alone")] : []),
    el("li", { className: "hint" }, `Above: tokens of each frame shown. Below: what a frame loses at ${Object.keys(lost).join(", ")} tokens.`));
}

/** Make the first pass where none was made, and show what it saw and the plan. */
async function prepare(row) {
  const isLeft = () => opened !== row;
  if (!await look(row, isLeft)) return;
  try {
    const data = await json("GET", address("/api/timeline", { video: row.name }));
    if (isLeft()) return;
    timeline.setData(data);
    Object.assign(plan, { first: data.start, last: data.end });
    player.end = data.end;
    drawLegend();
    plan.open(row, data.notes);
    if (data.is_partial) {
      byId("look").hidden = false;
      notice(byId("look"), data.notes.join("; "), "bad");
    }
  } catch (error) {
    if (isLeft()) return;
    byId("look").hidden = false;
    notice(byId("look"), error.message, "bad", ["Try again", () => prepare(row)]);
  }
}

async function openVideo(name) {
  leave();
  byId("library").hidden = true;
  byId("workspace").hidden = false;
  byId("title").textContent = name;
  document.title = `${name} – m3video`;
  byId("look").hidden = true;
  byId("main").focus({ preventScroll: true });
  try {
    const isIt = (one) => one.name === name;
    const row = library.rows.find(isIt) ?? (await library.load())?.find(isIt);
    if (!row) throw new Error("There is no video of this name in the folder.");
    opened = row;
    player.open(row);
    const [header, kept] = await Promise.all([
      json("GET", address("/api/video", { video: name })), json("GET", address("/api/notes", { video: name }))]);
    if (opened !== row) return;
    row.url = header.url;
    if (!timeline.data) timeline.open(row, header.seconds ?? player.length);
    ask.open(row, kept.answers);
    notes.open(row, kept.marks);
    await prepare(row);
  } catch (error) {
    leave();
    notice(byId("stage-notice"), error.message, "bad", ["Back to the list", () => { location.hash = ""; }]);
  }
}

function leave() {
  opened = null;
  for (const part of [player, plan, ask, notes]) part.close();
  timeline.reset();
  byId("legend").replaceChildren();
  byId("look").replaceChildren();
  drawWhy();
}

function route() {
  const name = decodeURIComponent(location.hash.slice(1));
  if (name) {
    openVideo(name);
    return;
  }
  leave();
  byId("workspace").hidden = true;
  byId("library").hidden = false;
  byId("title").textContent = "";
  document.title = "m3video";
  library.load();
}

addEventListener("key-wanted", () => byId("login").open || byId("login").showModal());
byId("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await json("POST", "/api/login", { body: { key: byId("login-key").value } });
    location.reload();
  } catch (error) {
    notice(byId("login-notice"), error.message, "bad");
  }
});

addEventListener("hashchange", route);
route();
// For tests and for the console.
Object.assign(window, { m3video: { library, player, timeline, plan, ask, notes } });
