// The keyboard: one table of keys, for what they do and for the help.

import { byId, el } from "./dom.js";

const KEPT_BY_CONTROLS = "input, textarea, select, [contenteditable]";
const PRESSED_BY_SPACE = "button, a, summary, video";

/** Return the table: [keys, words, function(event)]; keys as `KeyboardEvent.key` has them. */
export function keyTable({ player, timeline, plan, actions }) {
  const by = (seconds) => () => player.seek(player.time + seconds);
  const frame = (count) => () => {
    player.pause();
    player.seek(player.time + count * (timeline.data?.frame_seconds ?? 0.04));
  };
  const zoom = (factor) => () => {
    timeline.view.zoom(factor, timeline.view.x(Math.min(timeline.view.to, Math.max(timeline.view.from, player.time))));
    timeline.draw();
  };
  const pan = (share) => () => {
    timeline.view.pan(share * timeline.view.seconds);
    timeline.draw();
  };
  return [
    [[" ", "k"], "play or pause", () => player.toggle()],
    [["j"], "10 seconds back", by(-10)],
    [["l"], "10 seconds on", by(10)],
    [["ArrowLeft"], "1 second back", by(-1)],
    [["ArrowRight"], "1 second on", by(1)],
    [[","], "one frame back", frame(-1)],
    [["."], "one frame on", frame(1)],
    [["Home"], "to the start", () => player.seek(0)],
    [["End"], "to the end", () => player.seek(timeline.view.end)],
    [["+", "="], "zoom in", zoom(1.5)],
    [["-"], "zoom out", zoom(1 / 1.5)],
    [["0"], "whole video", () => { timeline.view.whole(); timeline.draw(); }],
    [["["], "pan back", pan(-0.25)],
    [["]"], "pan on", pan(0.25)],
    [["i"], "the range starts here", actions.setStart],
    [["o"], "the range ends here", actions.setEnd],
    [["x"], "clear the range", actions.clearRange],
    [["p"], "pin or unpin the frame here", actions.pin],
    [["m"], "mark this time, or the range", actions.mark],
    [["/"], "write a question, or search", actions.write],
    [["?"], "these keys", () => byId("keys").showModal()],
  ];
}

const NAMES = { " ": "space", ArrowLeft: "←", ArrowRight: "→" };

/** Listen to the keys of a table while `isOn(key)`, and fill the help. */
export function listen(table, isOn) {
  byId("key-list").replaceChildren(...table.flatMap(([keys, words]) => [
    el("dt", {}, ...keys.flatMap((key, i) => [i ? " or " : "", el("kbd", {}, NAMES[key] ?? key)])), el("dd", {}, words)]).concat([
    el("dt", {}, "wheel"), el("dd", {}, "zoom; with shift, pan"),
    el("dt", {}, "shift and drag"), el("dd", {}, "set the range"),
    el("dt", {}, "Escape"), el("dd", {}, "leave a field")]));
  document.addEventListener("keydown", (event) => {
    const { target, key } = event;
    if (key === "Escape" && target.matches(KEPT_BY_CONTROLS)) target.blur();
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || document.querySelector("dialog[open]")) return;
    if (target.matches(KEPT_BY_CONTROLS) || (key === " " && target.matches(PRESSED_BY_SPACE))) return;
    const found = table.find(([keys]) => keys.includes(key));
    if (!found || !isOn(key)) return;
    event.preventDefault();
    found[2](event);
  });
}
