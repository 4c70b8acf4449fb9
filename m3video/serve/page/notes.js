// Marks, and the export of what was kept.

import { address, json, send } from "./api.js";
import { byId, clock, counted, el, notice } from "./dom.js";

/** Fires "marks" with detail.marks when they change, and "seek" with detail.time. */
export class Notes extends EventTarget {
  constructor() {
    super();
    this.close();
    byId("export-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.export();
    });
    for (const id of ["answers", "marks"]) byId(id).addEventListener("change", () => this.drawWhat());
  }

  close() {
    Object.assign(this, { row: null, marks: [] });
    byId("marks").replaceChildren();
    notice(byId("notes-notice"), "");
  }

  open(row, marks) {
    this.row = row;
    this.marks = marks;
    this.draw();
  }

  /** Show a mark at once, so that its words can be typed, and keep it meanwhile. */
  async add({ start, until = null, text = "" }) {
    const mark = { id: null, start, until, text };
    mark.kept = json("POST", "/api/marks", { body: { video: this.row.name, start, until, text } });
    this.marks.push(mark);
    this.marks.sort((a, b) => a.start - b.start);
    notice(byId("notes-notice"), "");
    this.draw();
    const line = byId("marks").children[this.marks.indexOf(mark)];
    if (!text) line.querySelector("input[type=text]").focus();
    try {
      mark.id = line.dataset.id = (await mark.kept).id;
    } catch (error) {
      notice(byId("notes-notice"), error.message, "bad");
      this.marks = this.marks.filter((one) => one !== mark);
      if (line.isConnected) this.draw();
    }
  }

  draw() {
    byId("marks").replaceChildren(...this.marks.map((mark) => this.line(mark)));
    if (!this.marks.length) byId("marks").append(el("li", { className: "hint" }, "None yet. The key m marks the time of the player, or the range."));
    this.drawWhat();
    this.dispatchEvent(new CustomEvent("marks", { detail: { marks: this.marks } }));
  }

  line(mark) {
    const words = mark.until ? `${clock(mark.start)} – ${clock(mark.until)}` : clock(mark.start);
    const text = el("input", { type: "text", value: mark.text, dir: "auto", "aria-label": `Words for the mark at ${words}`, placeholder: "what is here?" });
    text.addEventListener("change", () => this.rename(mark, text.value));
    text.addEventListener("keydown", (event) => { if (event.key === "Enter") text.blur(); });
    return el("li", { dataset: mark.id === null ? {} : { id: mark.id } },
      el("input", { type: "checkbox", className: "picked", "aria-label": `Export the mark at ${words}` }),
      el("button", { type: "button", className: "chip", dataset: { time: mark.start },
        onclick: () => this.dispatchEvent(new CustomEvent("seek", { detail: { time: mark.start } })) }, words),
      text,
      el("button", { type: "button", "aria-label": `Remove the mark at ${words}`, onclick: () => this.remove(mark) }, "×"));
  }

  async rename(mark, text) {
    try {
      await mark.kept;
      await send("PUT", `/api/marks/${mark.id}`, { body: { text } });
      mark.text = text;
      notice(byId("notes-notice"), "");
    } catch (error) {
      notice(byId("notes-notice"), error.message, "bad");
    }
  }

  async remove(mark) {
    try {
      await mark.kept;
      await send("DELETE", `/api/marks/${mark.id}`);
      this.marks = this.marks.filter((one) => one !== mark);
      this.draw();
    } catch (error) {
      notice(byId("notes-notice"), error.message, "bad");
    }
  }

  /** Return what is picked for export, as the server names it; empty for all. */
  picked() {
    const of = (id, letter) => [...byId(id).querySelectorAll("li[data-id]")].filter((line) => line.querySelector(".picked:checked")).map((line) => letter + line.dataset.id);
    return [...of("answers", "a"), ...of("marks", "m")];
  }

  drawWhat() {
    const count = this.picked().length;
    byId("export-what").textContent = count ? `${counted(count, "item")} picked` : "everything";
  }

  async export() {
    const only = this.picked().join(",");
    const format = byId("export-format").value;
    try {
      const response = await send("GET", address("/api/export", { video: this.row.name, format, only: only || null }));
      const name = decodeURIComponent(response.headers.get("Content-Disposition").split("''")[1]);
      const link = el("a", { href: URL.createObjectURL(await response.blob()), download: name });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
      notice(byId("notes-notice"), `Saved as ${name}.`);
    } catch (error) {
      notice(byId("notes-notice"), error.message, "bad");
    }
  }
}
