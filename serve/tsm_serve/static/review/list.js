// The list of videos; only rows that can be seen are in the page, so that thousands are no burden.

import { byId, clock, make } from "./dom.js";

/** @typedef {import("./types.js").Line} Line */

const ROW = 46;
const STATES = { new: "new", draft: "draft", checking: "being checked", done: "done" };

export class VideoList {
  /** @param {(id: string) => void} onOpen */
  constructor(onOpen) {
    this.onOpen = onOpen;
    this.box = byId("videos", HTMLDivElement);
    this.space = byId("videos-space", HTMLDivElement);
    this.filter = byId("filter", HTMLInputElement);
    this.stateFilter = byId("state-filter", HTMLSelectElement);
    this.totals = byId("totals", HTMLParagraphElement);
    /** @type {Line[]} */
    this.lines = [];
    /** @type {Line[]} */
    this.shown = [];
    this.current = "";
    this.active = 0;
    this.box.addEventListener("scroll", () => this.#draw());
    this.box.addEventListener("keydown", (event) => this.#key(event));
    this.filter.addEventListener("input", () => this.#choose());
    this.stateFilter.addEventListener("change", () => this.#choose());
    new ResizeObserver(() => this.#draw()).observe(this.box);
  }

  /** @param {Line[]} lines */
  setLines(lines) {
    this.lines = lines;
    this.#choose();
    this.#total();
  }

  /** @param {Line} line */
  update(line) {
    const at = this.lines.findIndex((other) => other.id === line.id);
    if (at < 0) return;
    this.lines[at] = line;
    const shown = this.shown.findIndex((other) => other.id === line.id);
    if (shown >= 0) this.shown[shown] = line;
    this.#draw();
    this.#total();
  }

  /** @param {string} id */
  setCurrent(id) {
    this.current = id;
    const at = this.shown.findIndex((line) => line.id === id);
    if (at >= 0) this.#activate(at);
    this.#draw();
  }

  /** @param {number} direction @returns {string | null} id of the neighbour of the current video */
  neighbour(direction) {
    const at = this.shown.findIndex((line) => line.id === this.current);
    return this.shown[at + direction]?.id ?? null;
  }

  /** @returns {string | null} the next video below that is not done */
  nextUndone() {
    const at = this.shown.findIndex((line) => line.id === this.current);
    const turned = [...this.shown.slice(at + 1), ...this.shown.slice(0, Math.max(0, at))];
    return turned.find((line) => line.state !== "done")?.id ?? null;
  }

  #choose() {
    const text = this.filter.value.trim().toLowerCase();
    const state = this.stateFilter.value;
    this.shown = this.lines.filter(
      (line) => (!text || line.id.toLowerCase().includes(text)) && (!state || line.state === state),
    );
    this.active = Math.max(0, this.shown.findIndex((line) => line.id === this.current));
    this.space.style.height = `${this.shown.length * ROW}px`;
    this.#activate(this.active);
    this.#draw();
  }

  #total() {
    const hours = (/** @type {Line[]} */ lines) =>
      lines.reduce((sum, line) => sum + (line.seconds ?? 0), 0) / 3600;
    const done = this.lines.filter((line) => line.state === "done");
    this.totals.textContent =
      `${done.length} of ${this.lines.length} videos done, ` +
      `${hours(done).toFixed(2)} of ${hours(this.lines).toFixed(2)} h`;
  }

  #draw() {
    const first = Math.max(0, Math.floor(this.box.scrollTop / ROW) - 5);
    const count = Math.ceil(this.box.clientHeight / ROW) + 10;
    const rows = this.shown.slice(first, first + count).map((line, n) => this.#row(line, first + n));
    this.space.replaceChildren(...rows);
    const active = this.shown[this.active];
    if (active) this.box.setAttribute("aria-activedescendant", `video-${this.active}`);
  }

  /** @param {Line} line @param {number} number */
  #row(line, number) {
    const facts = [STATES[line.state]];
    if (line.seconds !== null) facts.push(clock(line.seconds, 0));
    if (line.segments) facts.push(`${line.segments} segments`);
    else if (line.drafted) facts.push(`${line.drafted} drafted`);
    if (line.subset !== "training") facts.push(line.subset);
    const row = make(
      "div",
      {
        class: `video-row state-${line.state}${number === this.active ? " active" : ""}`,
        id: `video-${number}`,
        role: "option",
        "aria-selected": String(line.id === this.current),
        title: line.id,
      },
      make("span", { class: "video-name" }, line.id),
      make("span", { class: "video-facts" }, make("span", { class: "dot", "aria-hidden": "true" }), facts.join(" · ")),
    );
    row.style.top = `${number * ROW}px`;
    row.addEventListener("click", () => this.onOpen(line.id));
    return row;
  }

  /** @param {number} number */
  #activate(number) {
    this.active = Math.max(0, Math.min(this.shown.length - 1, number));
    const top = this.active * ROW;
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    const bottom = top + ROW - this.box.clientHeight;
    if (bottom > this.box.scrollTop) this.box.scrollTop = bottom;
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const page = Math.max(1, Math.floor(this.box.clientHeight / ROW) - 1);
    const steps = /** @type {Record<string, number>} */ ({
      ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity,
    });
    if (event.key in steps) {
      const step = steps[event.key];
      this.#activate(Number.isFinite(step) ? this.active + step : step > 0 ? this.shown.length - 1 : 0);
      this.#draw();
    } else if (event.key === "Enter" && this.shown[this.active]) {
      this.onOpen(this.shown[this.active].id);
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }
}
