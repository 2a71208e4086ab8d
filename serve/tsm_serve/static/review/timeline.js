// The timeline: a row per class, drafts above what was annotated, and what a pointer does to them.

import { byId, clock, make } from "./dom.js";
import { drag } from "./dragging.js";

/** @typedef {import("./types.js").Annotation} Annotation */
/** @typedef {import("./types.js").DraftSegment} DraftSegment */

const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 3600];
const LEAST_PIXELS_PER_TICK = 70;

/**
 * @typedef {object} Scene
 * @property {string[]} labels
 * @property {Record<string, number>} colors
 * @property {number} seconds
 * @property {Annotation[]} annotations
 * @property {DraftSegment[]} drafts
 * @property {Annotation | null} selected
 * @property {string} active label of new segments
 */
/**
 * @typedef {object} Handlers
 * @property {(seconds: number) => void} seek
 * @property {(one: Annotation) => void} select
 * @property {(one: Annotation, by: Annotation) => void} replace
 * @property {(draft: DraftSegment) => void} accept
 * @property {(label: string) => void} activate
 * @property {(seconds: number) => number} snap
 * @property {(seconds: number) => void} near
 */

export class Timeline {
  /** @param {Handlers} on */
  constructor(on) {
    this.on = on;
    this.scroll = byId("timeline-scroll", HTMLDivElement);
    this.content = byId("timeline-content", HTMLDivElement);
    this.names = byId("timeline-names", HTMLDivElement);
    this.ruler = byId("ruler", HTMLDivElement);
    this.rows = byId("rows", HTMLDivElement);
    this.head = byId("playhead", HTMLDivElement);
    this.zoom = 1;
    /** @type {Scene} */
    this.scene = { labels: [], colors: {}, seconds: 1, annotations: [], drafts: [], selected: null, active: "" };
    this.drawn = { from: 0, to: 0 };
    this.scroll.addEventListener("scroll", () => this.#scrolled());
    this.scroll.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    this.content.addEventListener("pointerdown", (event) => this.#press(event));
    new ResizeObserver(() => this.draw()).observe(this.scroll);
  }

  /** @param {Scene} scene */
  show(scene) {
    this.scene = scene;
    this.draw();
  }

  /** @param {number} factor @param {number} around seconds that stay where they are */
  zoomBy(factor, around) {
    const most = Math.max(1, (this.scene.seconds * 400) / Math.max(1, this.scroll.clientWidth));
    const before = around * this.#scale() - this.scroll.scrollLeft;
    this.zoom = factor === 0 ? 1 : Math.min(most, Math.max(1, this.zoom * factor));
    this.content.style.width = `${this.zoom * 100}%`;
    this.scroll.scrollLeft = around * this.#scale() - before;
    this.draw();
  }

  /** @param {number} seconds @param {boolean} follow scroll so that it is seen */
  setNow(seconds, follow) {
    this.head.style.left = `${(100 * seconds) / this.scene.seconds}%`;
    const x = seconds * this.#scale();
    const { scrollLeft, clientWidth } = this.scroll;
    if (follow && (x < scrollLeft || x > scrollLeft + clientWidth)) this.scroll.scrollLeft = x - clientWidth / 4;
  }

  draw() {
    const span = this.scroll.clientWidth / this.#scale();
    const left = this.scroll.scrollLeft / this.#scale();
    this.drawn = { from: left - span, to: left + 2 * span };
    this.content.style.width = `${this.zoom * 100}%`;
    this.#drawRuler();
    this.#drawNames();
    this.rows.replaceChildren(...this.scene.labels.map((label) => this.#row(label)));
  }

  /** @param {PointerEvent | WheelEvent} event @returns {number} */
  secondsAt(event) {
    const box = this.content.getBoundingClientRect();
    return Math.max(0, Math.min(1, (event.clientX - box.left) / box.width)) * this.scene.seconds;
  }

  #scale() {
    return (this.scroll.clientWidth * this.zoom) / this.scene.seconds;
  }

  #scrolled() {
    const left = this.scroll.scrollLeft / this.#scale();
    const right = left + this.scroll.clientWidth / this.#scale();
    if (left < this.drawn.from || right > this.drawn.to) this.draw();
  }

  #drawRuler() {
    const least = LEAST_PIXELS_PER_TICK / this.#scale();
    const step = STEPS.find((one) => one >= least) ?? 3600 * Math.ceil(least / 3600);
    const ticks = [];
    const last = Math.min(this.scene.seconds, this.drawn.to);
    for (let n = Math.max(0, Math.ceil(this.drawn.from / step)); n * step <= last; n++) {
      const tick = make("span", { class: "tick" }, clock(n * step, step < 1 ? 1 : 0));
      tick.style.left = `${(100 * n * step) / this.scene.seconds}%`;
      ticks.push(tick);
    }
    this.ruler.replaceChildren(...ticks);
  }

  #drawNames() {
    const names = this.scene.labels.map((label, number) => {
      const button = make(
        "button",
        { type: "button", class: "class-name", title: label, "aria-pressed": String(label === this.scene.active) },
        make("span", { class: "swatch", "aria-hidden": "true" }),
        ...(number < 9 ? [make("kbd", {}, String(number + 1))] : []),
        make("span", {}, label),
      );
      button.style.setProperty("--color", this.#color(label));
      button.addEventListener("click", () => this.on.activate(label));
      return button;
    });
    this.names.replaceChildren(...names);
  }

  /** @param {string} label */
  #color(label) {
    return `var(--class-${this.scene.colors[label] ?? 0})`;
  }

  /** @param {string} label */
  #row(label) {
    const row = make("div", { class: "row" });
    row.style.setProperty("--color", this.#color(label));
    const seen = (/** @type {{label: string, segment: [number, number]}} */ one) =>
      one.label === label && one.segment[1] > this.drawn.from && one.segment[0] < this.drawn.to;
    for (const draft of this.scene.drafts.filter(seen)) row.append(this.#draft(draft));
    for (const one of this.scene.annotations.filter(seen)) row.append(this.#segment(one));
    return row;
  }

  /** @param {HTMLElement} element @param {[number, number]} segment */
  #place(element, segment) {
    element.style.left = `${(100 * segment[0]) / this.scene.seconds}%`;
    element.style.width = `${(100 * (segment[1] - segment[0])) / this.scene.seconds}%`;
  }

  /** @param {DraftSegment} draft */
  #draft(draft) {
    const [start, end] = draft.segment;
    const name = `draft ${draft.label}, ${clock(start)} to ${clock(end)}, score ${draft.score.toFixed(2)}; accept`;
    const made = make("button", { type: "button", class: "draft", tabindex: -1, "aria-label": name, title: name });
    made.style.setProperty("--sure", String(0.25 + 0.6 * draft.score));
    made.addEventListener("click", () => this.on.accept(draft));
    this.#place(made, draft.segment);
    return made;
  }

  /** @param {Annotation} one */
  #segment(one) {
    const [start, end] = one.segment;
    const chosen = one === this.scene.selected;
    const made = make(
      "div",
      {
        class: `segment${chosen ? " selected" : ""}`,
        role: "button",
        tabindex: chosen ? 0 : -1,
        "aria-pressed": String(chosen),
        "aria-label": `${one.label}, ${clock(start)} to ${clock(end)}${one.by ? `, by ${one.by}` : ""}`,
        title: `${one.label}  ${clock(start)} – ${clock(end)}${one.by ? `\n${one.by}, ${one.at}` : ""}`,
      },
      make("span", { class: "grip start", "aria-hidden": "true" }),
      make("span", { class: "grip end", "aria-hidden": "true" }),
    );
    this.#place(made, one.segment);
    made.addEventListener("pointerdown", (event) => this.#grab(event, made, one));
    return made;
  }

  /** @param {PointerEvent} event @param {HTMLElement} element @param {Annotation} one */
  #grab(event, element, one) {
    if (event.button) return;
    event.stopPropagation();
    event.preventDefault();
    const target = /** @type {HTMLElement} */ (event.target);
    const which = target.classList.contains("grip") ? (target.classList.contains("end") ? "end" : "start") : "both";
    drag(event, one, which, {
      secondsAt: (later) => this.secondsAt(later),
      snap: this.on.snap,
      near: this.on.near,
      shown: (by) => {
        this.#place(element, by.segment);
        element.classList.add("dragged");
      },
      clicked: () => this.on.select(one),
      dropped: (by) => this.on.replace(one, by),
    });
  }

  /** Moves the playhead while the pointer is down. @param {PointerEvent} event */
  #press(event) {
    if (event.button || /** @type {HTMLElement} */ (event.target).closest(".draft, .segment")) return;
    const move = (/** @type {PointerEvent} */ later) => this.on.seek(this.secondsAt(later));
    move(event);
    this.content.setPointerCapture(event.pointerId);
    this.content.addEventListener("pointermove", move);
    const end = () => this.content.removeEventListener("pointermove", move);
    for (const kind of ["pointerup", "pointercancel"]) this.content.addEventListener(kind, end, { once: true });
  }

  /** @param {WheelEvent} event */
  #wheel(event) {
    if (!event.ctrlKey) return;
    event.preventDefault();
    this.zoomBy(event.deltaY < 0 ? 1.25 : 0.8, this.secondsAt(event));
  }
}
