// A copy of a video that the browser can play: asked for where it cannot play the file itself.

import { address, json } from "./api.js";
import { byId, el, notice } from "./dom.js";

const STILLS = "This browser cannot play this file: its frames are shown as pictures, without sound.";

/** Have the copy made, shown in the place "stage-notice"; return whether it is there (false: cancelled, or left). */
export async function copyOf(row, isLeft) {
  const place = byId("stage-notice");
  let isCancelled = false;
  const again = () => new Promise((go) => { notice(place, STILLS, "", ["Make a copy that it can play", go]); });
  const words = el("span");
  const bar = el("progress", { "aria-label": "Copy for the player" });
  const line = el("p", { className: "notice busy" }, words, bar, el("button", { type: "button", onclick: () => { isCancelled = true; } }, "Cancel"));
  for (;;) {
    try {
      if (isCancelled) {
        await json("DELETE", address("/api/copy", { video: row.name }));
        isCancelled = false;
        if (isLeft()) return false;
        await again();
      }
      const state = await json("POST", "/api/copy", { body: { video: row.name } });
      if (isLeft()) return false;
      if (state.state === "ready") {
        notice(place, "");
        return true;
      }
      const share = state.total ? `: ${state.done.toLocaleString("en")} of ${state.total.toLocaleString("en")} frames` : "";
      words.textContent = `${STILLS} A copy that it can play is ${state.state === "waiting" ? "waiting for its turn" : `being made${share}`}.`;
      if (state.total) Object.assign(bar, { max: state.total, value: state.done });
      else bar.removeAttribute("value");
      if (!place.contains(line)) place.replaceChildren(line);
      for (let i = 0; i < 4 && !isCancelled; i += 1) await new Promise((next) => { setTimeout(next, 100); });
    } catch (error) {
      if (isLeft()) return false;
      await new Promise((go) => { notice(place, `${STILLS} No copy could be made: ${error.message}`, "bad", ["Try again", go]); });
      isCancelled = false;
    }
  }
}
