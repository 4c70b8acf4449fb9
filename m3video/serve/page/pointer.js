// The timeline under mouse, pen, finger and wheel: click seeks, drag of an edge moves the range, wheel zooms and pans.

const NEAR = 8;
const MOVED = 4;
const RULER = 20;

/**
 * Let a timeline be pointed at.
 *
 * It fires "seek" with detail.time, "range" with the range while one of its edges is dragged, and pans itself.
 */
export function listen(timeline) {
  const { place } = timeline;
  const held = new Map();
  let drag = null;
  const at = (event) => event.clientX - place.getBoundingClientRect().left;
  const tell = (name, detail) => timeline.dispatchEvent(new CustomEvent(name, { detail }));

  /** Return which edge of the range is near: "start", "end" or null. */
  function edgeAt(x) {
    const { view, range } = timeline;
    return ["start", "end"].find((name) => range[name] !== undefined && Math.abs(view.x(range[name]) - x) < NEAR) ?? null;
  }

  place.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    place.setPointerCapture(event.pointerId);
    held.set(event.pointerId, at(event));
    if (held.size === 2) drag = { kind: "pinch" };
    else if (held.size === 1) {
      const [x, y] = [at(event), event.clientY - place.getBoundingClientRect().top];
      const edge = edgeAt(x);
      const kind = edge ? "edge" : event.shiftKey ? "range" : y < RULER ? "scrub" : "pan";
      drag = { kind, edge, x, from: x, isMoved: false, time: timeline.view.time(x) };
      if (kind === "scrub") tell("seek", { time: drag.time });
    }
  });

  place.addEventListener("pointermove", (event) => {
    const x = at(event);
    if (!held.has(event.pointerId)) {
      place.classList.toggle("on-edge", edgeAt(x) !== null);
      return;
    }
    const { view } = timeline;
    if (drag?.kind === "pinch" && held.size === 2) {
      const before = [...held.values()];
      held.set(event.pointerId, x);
      const now = [...held.values()];
      const [wide, wider] = [before, now].map(([a, b]) => Math.max(10, Math.abs(a - b)));
      view.zoom(wider / wide, (now[0] + now[1]) / 2);
      timeline.draw();
      return;
    }
    held.set(event.pointerId, x);
    if (!drag) return;
    drag.isMoved ||= Math.abs(x - drag.from) > MOVED;
    if (!drag.isMoved) return;
    const time = Math.min(view.end, Math.max(view.start, view.time(x)));
    if (drag.kind === "scrub") tell("seek", { time });
    else if (drag.kind === "edge") tell("range", { ...timeline.range, [drag.edge]: time });
    else if (drag.kind === "range") tell("range", { start: Math.min(drag.time, time), end: Math.max(drag.time, time) });
    else if (drag.kind === "pan") {
      view.pan((drag.x - x) / view.perSecond);
      timeline.draw();
    }
    drag.x = x;
  });

  function end(event) {
    if (!held.delete(event.pointerId)) return;
    if (drag && !drag.isMoved && ["pan", "range"].includes(drag.kind) && event.type === "pointerup") tell("seek", { time: drag.time });
    drag = null;
  }
  place.addEventListener("pointerup", end);
  place.addEventListener("pointercancel", end);

  place.addEventListener("wheel", (event) => {
    event.preventDefault();
    const { view } = timeline;
    const pixels = event.deltaMode === 1 ? 16 : 1;
    const [dx, dy] = [event.deltaX * pixels, event.deltaY * pixels];
    if (event.shiftKey || Math.abs(dx) > Math.abs(dy)) view.pan((event.shiftKey ? dy || dx : dx) / view.perSecond);
    else view.zoom(Math.exp(-dy / 300), at(event));
    timeline.draw();
  }, { passive: false });
}
