// Videos that are sent into the folder: one after the other, each with its progress and a cancel.

import { ApiError, address, errorOf } from "./api.js";
import { byId, el, notice } from "./dom.js";

/** Return bytes for people: "3.4 MB". */
function size(bytes) {
  const place = Math.min(4, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
  return `${(bytes / 1000 ** place).toPrecision(3)} ${["bytes", "kB", "MB", "GB", "TB"][place]}`;
}

/** Fires "added" when a video has entered the folder. `most` is the number of bytes that the server takes. */
export class Upload extends EventTarget {
  constructor() {
    super();
    Object.assign(this, { most: Infinity, waiting: [], isBusy: false });
    const picker = byId("upload-files");
    byId("upload").addEventListener("click", () => picker.click());
    picker.addEventListener("change", () => {
      this.add(picker.files);
      picker.value = ""; // so that the same file can be picked again
    });
    const place = byId("library");
    const hasFiles = (event) => event.dataTransfer.types.includes("Files");
    for (const name of ["dragenter", "dragover"]) place.addEventListener(name, (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      place.classList.add("over");
    });
    for (const name of ["dragleave", "drop"]) place.addEventListener(name, () => place.classList.remove("over"));
    place.addEventListener("drop", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      this.add(event.dataTransfer.files);
    });
    addEventListener("beforeunload", (event) => { if (this.isBusy) event.preventDefault(); });
  }

  add(files) {
    for (const file of files) {
      const line = el("li");
      byId("uploads").append(line);
      if (file.size > this.most) this.fail(line, `${file.name}: it has ${size(file.size)}, and the server takes ${size(this.most)} at most`);
      else {
        this.waiting.push([file, line]);
        notice(line, `${file.name}: waiting`, "busy", ["Cancel", () => {
          this.waiting = this.waiting.filter(([, other]) => other !== line);
          line.remove();
        }]);
      }
    }
    this.work();
  }

  async work() {
    if (this.isBusy) return;
    this.isBusy = true;
    while (this.waiting.length) {
      const [file, line] = this.waiting.shift();
      try {
        await this.send(file, line);
        line.remove();
        this.dispatchEvent(new Event("added"));
      } catch (error) {
        if (error.name === "AbortError") line.remove();
        else this.fail(line, error.message);
      }
    }
    this.isBusy = false;
  }

  fail(line, words) {
    notice(line, `Not added. ${words}`, "bad", ["Close", () => line.remove()]);
  }

  /** Send a file; fetch tells no progress of what is sent, XMLHttpRequest does. */
  send(file, line) {
    return new Promise((done, failed) => {
      const request = new XMLHttpRequest();
      const words = el("span", { dir: "auto" }, `${file.name}: sending`);
      const bar = el("progress", { max: Math.max(1, file.size), value: 0, "aria-label": `Upload of ${file.name}` });
      line.replaceChildren(el("p", { className: "notice busy" }, words, bar,
        el("button", { type: "button", onclick: () => request.abort(), "aria-label": `Cancel the upload of ${file.name}` }, "Cancel")));
      request.upload.addEventListener("progress", (event) => {
        bar.value = event.loaded;
        words.textContent = `${file.name}: sent ${size(event.loaded)} of ${size(file.size)}`;
      });
      request.upload.addEventListener("load", () => {
        bar.removeAttribute("value");
        words.textContent = `${file.name}: being checked`;
      });
      request.addEventListener("abort", () => failed(new DOMException("cancelled", "AbortError")));
      request.addEventListener("error", () => failed(new ApiError(`${file.name}: the connection to the server broke`, 0)));
      request.addEventListener("load", async () => {
        if (request.status === 200) done();
        else failed(await errorOf(new Response(request.response, { status: request.status, statusText: request.statusText })));
      });
      request.open("PUT", address("/api/upload", { name: file.name }));
      request.responseType = "blob";
      request.setRequestHeader("Content-Type", "application/octet-stream");
      request.send(file);
    });
  }
}
