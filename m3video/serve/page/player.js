// The player, or single frames where the browser cannot play a file. Times are seconds as players count.

import { address } from "./api.js";
import { byId, notice } from "./dom.js";

/** Added to a time that is sought: rounded down to microseconds it would lie in the frame before. */
const WITHIN_FRAME = 0.001;

const STILL_SIDE = 1280;

export class Player extends EventTarget {
  constructor() {
    super();
    this.element = byId("player");
    this.still = byId("still");
    this.row = null;
    this.isPlayable = true;
    this.stillTime = 0;
    this.stillBusy = false;
    this.end = 0;
    const told = () => this.dispatchEvent(new Event("time"));
    for (const name of ["timeupdate", "seeking", "seeked", "pause", "loadedmetadata"]) this.element.addEventListener(name, told);
    this.element.addEventListener("play", () => this.follow());
    this.element.addEventListener("error", () => this.row && this.showStills());
    this.element.addEventListener("loadedmetadata", () => {
      if (!this.element.videoWidth) this.showStills(); // the sound alone could be played
    });
    this.still.addEventListener("load", () => {
      this.still.hidden = this.isPlayable;
      this.stillDone();
    });
    this.still.addEventListener("error", () => {
      this.still.hidden = true;
      if (this.row && !this.isPlayable) notice(byId("stage-notice"), "This frame cannot be decoded.", "bad");
      this.stillDone();
    });
  }

  /** Show a video of the library from its start. */
  open(row) {
    this.close();
    this.row = row;
    this.load({});
  }

  /** Show the copy of the video that the browser can play, at the same time. */
  openCopy() {
    const time = this.stillTime;
    this.load({ copy: true });
    this.still.hidden = true;
    this.seek(time);
  }

  load(which) {
    this.isCopy = Boolean(which.copy);
    this.isPlayable = true;
    this.element.hidden = false;
    this.element.src = address("/media", { video: this.row.name, v: this.row.version, ...which });
  }

  close() {
    this.row = null;
    this.element.pause();
    this.element.removeAttribute("src");
    this.element.load();
    this.still.hidden = true;
    this.still.removeAttribute("src");
    this.stillTime = this.end = 0;
    notice(byId("stage-notice"), "");
  }

  get time() {
    // Before the header is there, an element keeps the time that was asked for, and reports it.
    return this.isPlayable ? this.element.currentTime : this.stillTime;
  }

  get length() {
    return this.end || (Number.isFinite(this.element.duration) ? this.element.duration : 0);
  }

  seek(seconds) {
    const time = Math.max(0, this.length ? Math.min(seconds, this.length) : seconds);
    if (this.isPlayable) this.element.currentTime = time + WITHIN_FRAME;
    else {
      this.stillTime = time;
      this.showStill();
    }
    this.dispatchEvent(new Event("time"));
  }

  toggle() {
    if (!this.isPlayable) return;
    if (this.element.paused) this.element.play().catch(() => {});
    else this.element.pause();
  }

  pause() {
    this.element.pause();
  }

  follow() {
    this.dispatchEvent(new Event("time"));
    if (!this.element.paused) requestAnimationFrame(() => this.follow());
  }

  showStills() {
    if (!this.isPlayable) return;
    this.isPlayable = false;
    this.stillTime = this.isCopy ? this.element.currentTime : 0;
    this.element.hidden = true;
    this.showStill();
    this.dispatchEvent(new Event("unplayable"));
  }

  showStill() {
    this.isStillWanted = true;
    if (this.stillBusy || !this.row) return;
    this.isStillWanted = false;
    this.stillBusy = true;
    this.still.alt = "Frame at the cursor";
    this.still.src = address("/api/frame", { video: this.row.name, at: this.stillTime, side: STILL_SIDE, v: this.row.version });
  }

  stillDone() {
    this.stillBusy = false;
    if (this.isStillWanted) this.showStill(); // the latest time that was asked for meanwhile
  }
}
