// Questions and answers: streamed, kept, with the times that the model was shown and the frames as it was shown them.

import { ApiError, address, events, json, send } from "./api.js";
import { byId, clock, counted, el, notice } from "./dom.js";

const MOST_CHIPS = 12;
const MOST_WAITS = 5;
const FRAME_SIDE = 320;

/** Fires "seek" with detail.time, "mark" with {start, until, text}, and "kept" when an answer was kept or removed. */
export class Ask extends EventTarget {
  constructor(plan) {
    super();
    this.plan = plan;
    byId("ask-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.ask(byId("question").value.trim());
    });
    byId("question").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        byId("ask-form").requestSubmit();
      }
    });
    byId("stop").addEventListener("click", () => this.running?.abort());
    this.close();
  }

  close() {
    this.running?.abort();
    Object.assign(this, { row: null, running: null });
    byId("answers").replaceChildren();
    byId("question").value = "";
    notice(byId("ask-notice"), "");
  }

  /** Show a video with the answers that were kept. */
  open(row, answers) {
    this.row = row;
    for (const kept of answers) {
      const place = this.add(kept.question);
      this.finish(place, kept.answer, kept.record, kept.id);
    }
  }

  async ask(question) {
    if (!question || this.running || !this.row) return;
    const { row } = this;
    const running = this.running = new AbortController();
    const place = this.add(question);
    place.classList.add("running");
    const begun = Date.now();
    const wait = el("p", { className: "cost wait" });
    place.append(wait);
    const ticking = setInterval(() => { wait.textContent = `The video is read and the answer written: ${Math.round((Date.now() - begun) / 1000)} s`; }, 1000);
    byId("question").value = "";
    this.showRunning(true);
    notice(byId("ask-notice"), "");
    let text = "";
    try {
      const record = await this.stream(question, running.signal, (piece) => {
        text += piece;
        place.querySelector(".text").textContent = text;
      });
      if (row !== this.row) return;
      this.finish(place, text, record, null);
      await this.keep(place, row, question, text, record);
    } catch (error) {
      if (row !== this.row) return;
      place.remove();
      byId("question").value ||= question;
      const words = error.name === "AbortError" ? "Stopped: nothing was kept." : error.message;
      notice(byId("ask-notice"), words, error.name === "AbortError" ? "" : "bad");
    } finally {
      clearInterval(ticking);
      wait.remove();
      if (this.running === running) {
        this.running = null;
        this.showRunning(false);
      }
    }
  }

  async keep(place, row, question, answer, record) {
    try {
      const kept = await json("POST", "/api/answers", { body: { video: row.name, question, answer, record } });
      place.dataset.id = kept.id;
      this.dispatchEvent(new Event("kept"));
    } catch (error) {
      notice(byId("ask-notice"), `This answer is not kept: ${error.message}`, "bad", ["Keep it", () => {
        notice(byId("ask-notice"), "");
        this.keep(place, row, question, answer, record);
      }]);
    }
  }

  /** Ask the server; call `onText` with each piece and return the record of the answer. A busy server is asked again. */
  async stream(question, signal, onText) {
    // Each question is answered as if it were the only one; the server keeps the video as the model has read it.
    const content = [{ type: "video_url", video_url: { url: this.row.url } }, { type: "text", text: question }];
    const messages = [{ role: "user", content }];
    const body = { model: await this.model(), messages, stream: true, stream_options: { include_usage: true }, m3video: { ...this.plan.forQuestion(), evidence: true } };
    let response;
    for (let wait = 0; ; wait += 1) {
      try {
        response = await send("POST", "/v1/chat/completions", { body, signal });
        break;
      } catch (error) {
        if (error.status !== 429 || wait >= MOST_WAITS) throw error;
        await this.pause(error.retryAfter ?? 2, signal);
      }
    }
    let record = null;
    for await (const event of events(response)) {
      if (event.error) throw new ApiError(event.error.message, 500);
      record = event.m3video ?? record;
      const piece = event.choices?.[0]?.delta?.content;
      if (piece) onText(piece);
    }
    signal.throwIfAborted();
    if (!record) throw new ApiError("The answer broke off. Ask again.", 0);
    return record;
  }

  /** Wait until the server has time again, and say so. */
  async pause(seconds, signal) {
    for (let left = Math.ceil(seconds); left > 0; left -= 1) {
      notice(byId("ask-notice"), `The server is busy with other questions: asking again in ${left} s.`, "busy");
      await new Promise((next) => { setTimeout(next, 1000); });
      signal.throwIfAborted();
    }
    notice(byId("ask-notice"), "");
  }

  async model() {
    this.modelName ??= (await json("GET", "/v1/models")).data[0].id;
    return this.modelName;
  }

  showRunning(isRunning) {
    byId("send").disabled = isRunning;
    byId("stop").hidden = !isRunning;
  }

  add(question) {
    const place = el("li", { className: "answer" },
      el("h3", { dir: "auto" }, question),
      el("p", { className: "text", dir: "auto", "aria-live": "polite" }));
    byId("answers").prepend(place);
    return place;
  }

  finish(place, text, record, id) {
    place.classList.remove("running");
    if (id !== null) place.dataset.id = id;
    place.querySelector(".text").textContent = text || "(no words)";
    const shown = el("div", { className: "shown" });
    const chips = el("ul", { className: "chips", "aria-label": "Times that the answer rests on" });
    this.drawChips(chips, shown, record, MOST_CHIPS);
    const rests = restsText(record.evidence, record.answer);
    if (rests) place.append(el("p", { className: "hint" }, rests));
    place.append(chips, shown, el("p", { className: "cost" }, costText(record)));
    if (record.warnings?.length) {
      place.append(el("details", {}, el("summary", {}, counted(record.warnings.length, "note")),
        el("ul", {}, ...record.warnings.map((line) => el("li", {}, line)))));
    }
    const pick = el("label", { className: "pick" }, el("input", { type: "checkbox", className: "picked" }), " export");
    place.append(el("p", { className: "bar" }, pick, el("button", { type: "button", onclick: () => this.remove(place) }, "Remove")));
  }

  drawChips(chips, shown, record, most) {
    const all = record.evidence?.ranges ?? [];
    const best = [...all].sort((a, b) => b.nats - a.nats).slice(0, most);
    chips.replaceChildren(...all.filter((one) => best.includes(one)).map((one) => {
      const chip = el("button", { type: "button", className: "chip", "aria-expanded": "false", dataset: { time: one.start_seconds } },
        rangeText(one), el("small", {}, ` ${one.nats.toFixed(1)} nats`));
      chip.addEventListener("click", () => {
        this.dispatchEvent(new CustomEvent("seek", { detail: { time: one.start_seconds } }));
        const wasOpen = chip.getAttribute("aria-expanded") === "true";
        for (const other of chips.querySelectorAll(".chip")) other.setAttribute("aria-expanded", "false");
        chip.setAttribute("aria-expanded", String(!wasOpen));
        shown.replaceChildren(...(wasOpen ? [] : this.framesOf(one, record)));
        shown.scrollIntoView({ block: "nearest" });
      });
      return el("li", {}, chip);
    }));
    if (all.length > best.length) {
      chips.append(el("li", {}, el("button", { type: "button", onclick: () => this.drawChips(chips, shown, record, all.length) },
        `${all.length - best.length} more, with less support`)));
    }
  }

  /** Return the frames of a range, as coarse as the model was shown them. */
  framesOf(range, record) {
    const frames = record.plan.frames.filter((one) => range.pts.includes(one.pts));
    const figures = frames.map((one) => {
      const words = `${clock(one.pts_seconds)}, ${counted(one.scale, "token")}`;
      const picture = el("img", { loading: "lazy", alt: `Frame at ${words}`,
        src: address("/api/frame", { video: this.row.name, pts: one.pts, scale: one.scale, side: FRAME_SIDE, v: this.row.version }) });
      const seek = el("button", { type: "button", title: "Show this time in the player",
        onclick: () => this.dispatchEvent(new CustomEvent("seek", { detail: { time: one.pts_seconds } })) }, picture);
      return el("figure", {}, seek, el("figcaption", {}, words));
    });
    const mark = el("button", { type: "button", onclick: () => this.dispatchEvent(new CustomEvent("mark", { detail: {
      start: range.start_seconds, until: range.end_seconds > range.start_seconds ? range.end_seconds : null, text: record.answer ?? "" } })) }, "Mark this time");
    return [el("p", { className: "hint" }, "Each picture is as coarse as the grid of tokens that the frame was given. ", mark), ...figures];
  }

  async remove(place) {
    try {
      if (place.dataset.id) await send("DELETE", `/api/answers/${place.dataset.id}`);
      place.remove();
      this.dispatchEvent(new Event("kept"));
    } catch (error) {
      notice(byId("ask-notice"), error.message, "bad");
    }
  }
}

const rangeText = ({ start_seconds: start, end_seconds: end }) => (end > start ? `${clock(start)} – ${clock(end)}` : clock(start));

/** Return what was measured of an answer by leaving frames out; the times themselves are chips below. */
function restsText(evidence, answer) {
  if (!evidence) return "";
  if (evidence.verdict === "unsupported") return "Rests on nothing shown: the model gives this answer without any frame.";
  if (evidence.verdict === "spread") return "Rests on no single moment: the answer stays, whichever part is left out.";
  const without = evidence.instead === answer ? "without that the same, but less likely" : evidence.instead ? `without that: “${evidence.instead}”` : "without that: no answer";
  const alone = evidence.stands_alone ? `alone it is enough, at ${counted(evidence.needs_tokens, "token")} a frame` : "alone it is not enough";
  return `Rests on these times; ${without}; ${alone}.`;
}

function costText(record) {
  const seconds = Object.values(record.stage_seconds ?? {}).reduce((sum, one) => sum + one, 0);
  const parts = [record.model];
  if (record.confidence != null) parts.push(`confidence ${(Math.floor(record.confidence * 100) / 100).toFixed(2)}`);
  if (record.tokens) parts.push(counted(record.tokens.visual, "visual token"));
  if (record.plan) parts.push(counted(record.plan.frames.length, "frame"));
  if (seconds) parts.push(`${seconds < 10 ? seconds.toPrecision(2) : Math.round(seconds)} s`);
  return parts.filter(Boolean).join(" · ");
}
