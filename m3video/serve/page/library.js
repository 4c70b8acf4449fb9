// The list of the folder's videos: pictures and lengths are read when a row comes into view.

import { address, json } from "./api.js";
import { byId, clock, counted, el, notice } from "./dom.js";
import { Upload } from "./upload.js";

const AT_ONCE = 2;

/** Return text for comparing: without case and accents. */
const folded = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

export class Library {
  constructor() {
    this.rows = [];
    this.waiting = [];
    this.running = 0;
    this.upload = new Upload();
    this.upload.addEventListener("added", () => this.load());
    byId("search").addEventListener("input", () => this.filter());
    this.seen = new IntersectionObserver((entries) => {
      for (const entry of entries.filter((one) => one.isIntersecting)) {
        this.seen.unobserve(entry.target);
        this.waiting.push(entry.target);
      }
      this.work();
    }, { rootMargin: "200px" });
  }

  /** Read the list; return the rows, or null where the server gave none. */
  async load() {
    const place = byId("library-notice");
    if (!this.rows.length) notice(place, "Reading the folder…");
    try {
      const found = await json("GET", "/api/videos");
      this.rows = found.videos;
      this.upload.most = found.most_upload;
      byId("folder").textContent = found.folder || "m3video";
      this.draw();
      const left = [];
      if (found.left_out) left.push(`Not listed, because there are so many: ${counted(found.left_out, "video")}.`);
      if (found.unreadable_names) left.push(`Not listed, because the name is not UTF-8: ${counted(found.unreadable_names, "file")}.`);
      notice(place, this.rows.length ? left.join(" ") : "No videos in this folder yet. Add some here, or copy some into it and read it again.", "",
        this.rows.length ? null : ["Read again", () => this.load()]);
      this.filter();
      return this.rows;
    } catch (error) {
      notice(place, error.message, "bad", ["Try again", () => this.load()]);
      return null;
    }
  }

  draw() {
    this.seen.disconnect();
    this.waiting = [];
    byId("videos").replaceChildren(...this.rows.map((row) => {
      const place = el("li", { className: "video-row" },
        el("a", { href: `#${encodeURIComponent(row.name)}`, title: row.name },
          el("span", { className: "thumb" }, el("span", { className: "length" })),
          el("span", { className: "name", dir: "auto" }, row.name),
          el("span", { className: `state ${row.answers ? "done" : ""}` }, stateText(row))));
      place.row = row;
      this.seen.observe(place);
      return place;
    }));
  }

  filter() {
    const words = folded(byId("search").value).split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const place of byId("videos").children) {
      const name = folded(place.row.name);
      place.hidden = !words.every((word) => name.includes(word));
      shown += !place.hidden;
    }
    byId("count").textContent = words.length ? `${shown} of ${counted(this.rows.length, "video")}` : counted(this.rows.length, "video");
    const place = byId("library-notice");
    if (words.length && !shown) notice(place, "No name has all these words.");
    else if (place.textContent.startsWith("No name")) notice(place, "");
  }

  async work() {
    while (this.running < AT_ONCE && this.waiting.length) {
      const place = this.waiting.shift();
      if (!place.isConnected) continue;
      this.running += 1;
      this.fill(place).finally(() => {
        this.running -= 1;
        this.work();
      });
    }
  }

  async fill(place) {
    const thumb = place.querySelector(".thumb");
    try {
      const found = await json("GET", address("/api/video", { video: place.row.name }));
      place.querySelector(".length").textContent = found.seconds === null ? "" : clock(Math.round(found.seconds));
      const picture = el("img", { alt: "", src: address("/api/thumbnail", { video: place.row.name, v: place.row.version }) });
      thumb.prepend(picture);
      await picture.decode();
    } catch (error) {
      thumb.classList.add("broken");
      thumb.querySelector("img")?.remove();
      place.querySelector(".state").textContent = "not readable";
      place.querySelector(".state").classList.add("bad");
      place.querySelector("a").title = `${place.row.name}\n${error.message}`;
    }
  }
}

function stateText(row) {
  const parts = [row.answers ? counted(row.answers, "answer") : row.state];
  if (row.marks) parts.push(counted(row.marks, "mark"));
  return parts.join(", ");
}
