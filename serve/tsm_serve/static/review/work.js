// The video at hand: its annotations, what is selected, undo and redo.

import { ordered } from "./edits.js";

/** @typedef {import("./types.js").Annotation} Annotation */
/** @typedef {import("./types.js").Edit} Edit */
/** @typedef {import("./types.js").Shown} Shown */

const MOST_UNDO = 500;

export class Work {
  /** @param {Shown} shown @param {string} layer annotator of a second annotation; empty: what training reads */
  constructor(shown, layer) {
    this.shown = shown;
    this.layer = layer;
    /** @type {Annotation[]} */
    this.annotations = ordered(layer ? (shown.others[layer] ?? []) : shown.annotations);
    /** @type {"checking" | "done"} */
    this.state = shown.state === "done" ? "done" : "checking";
    this.subset = shown.subset;
    this.scene = shown.scene;
    this.comment = shown.comment;
    /** @type {Annotation | null} */
    this.selected = null;
    /** @type {Edit[]} */
    this.past = [];
    /** @type {Edit[]} */
    this.future = [];
  }

  get id() {
    return this.shown.id;
  }

  /** @returns {Edit} */
  snapshot() {
    const { annotations, state, subset, scene, comment, layer } = this;
    return { annotations, state, subset, scene, comment, layer };
  }

  /** @param {Partial<Edit>} values @returns {boolean} whether something changed */
  change(values) {
    const before = this.snapshot();
    const after = { ...before, ...values };
    if (JSON.stringify(before) === JSON.stringify(after)) return false;
    this.past.push(before);
    if (this.past.length > MOST_UNDO) this.past.shift();
    this.future = [];
    this.#restore(after);
    return true;
  }

  undo() {
    return this.#exchange(this.past, this.future);
  }

  redo() {
    return this.#exchange(this.future, this.past);
  }

  /** @param {Shown} shown what the server has now; own edits and the selection stay where they are equal */
  adopt(shown) {
    this.shown = shown;
    const stored = this.layer ? (shown.others[this.layer] ?? []) : shown.annotations;
    const key = (/** @type {Annotation} */ one) => JSON.stringify([one.label, one.segment]);
    const known = new Map(stored.map((one) => [key(one), one]));
    for (const one of this.annotations) Object.assign(one, known.get(key(one)) ?? {});
  }

  /** @param {number} direction 1 or -1 @param {number} now seconds */
  selectNext(direction, now) {
    const list = this.annotations;
    if (!list.length) return;
    const at = this.selected ? list.indexOf(this.selected) : -1;
    if (at >= 0) {
      this.selected = list[(at + direction + list.length) % list.length];
      return;
    }
    const after = list.findIndex((one) => one.segment[1] > now);
    this.selected = direction > 0 ? list[after < 0 ? 0 : after] : list[after <= 0 ? list.length - 1 : after - 1];
  }

  /** @param {Edit[]} from @param {Edit[]} to */
  #exchange(from, to) {
    const found = from.pop();
    if (!found) return false;
    to.push(this.snapshot());
    this.#restore(found);
    return true;
  }

  /** @param {Edit} edit */
  #restore(edit) {
    const { annotations, state, subset, scene, comment } = edit;
    Object.assign(this, { annotations, state, subset, scene, comment });
    if (this.selected && !annotations.includes(this.selected)) {
      const [start, end] = this.selected.segment;
      const label = this.selected.label;
      this.selected =
        annotations.find((one) => one.label === label && one.segment[0] === start && one.segment[1] === end) ?? null;
    }
  }
}
