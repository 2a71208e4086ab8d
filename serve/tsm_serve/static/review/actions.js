// What buttons and keys do to the annotations of the video at hand.

import { add, merge, moved, remove, replace, split } from "./edits.js";

/** @typedef {import("./types.js").Annotation} Annotation */
/** @typedef {import("./types.js").DraftSegment} DraftSegment */
/** @typedef {import("./types.js").Edit} Edit */
/** @typedef {import("./player.js").Player} Player */
/** @typedef {import("./work.js").Work} Work */

export class Actions {
  /**
   * @param {Player} player
   * @param {{work: () => Work | null, changed: (saves: boolean) => void, label: () => string,
   *   setLabel: (label: string) => void, say: (text: string) => void}} app
   */
  constructor(player, app) {
    this.player = player;
    this.app = app;
    /** @type {number | null} */
    this.mark = null;
  }

  /** @param {Partial<Edit>} values */
  change(values) {
    const work = this.app.work();
    if (work && work.change(values)) this.app.changed(true);
  }

  /** @param {Annotation[]} annotations @param {Annotation | null} selected */
  #setList(annotations, selected) {
    const work = this.app.work();
    if (!work) return;
    const changed = work.change({ annotations });
    work.selected = selected && work.annotations.includes(selected) ? selected : null;
    this.app.changed(changed);
  }

  /** @param {Annotation} one */
  select(one) {
    const work = this.app.work();
    if (!work) return;
    work.selected = one;
    this.app.setLabel(one.label);
    this.app.changed(false);
  }

  /** @param {number} direction */
  selectNext(direction) {
    const work = this.app.work();
    if (!work) return;
    work.selectNext(direction, this.player.now);
    if (work.selected) {
      this.select(work.selected);
      void this.player.seek(work.selected.segment[0]);
    }
  }

  /** @param {Annotation} one @param {Annotation} by */
  replaceWith(one, by) {
    const work = this.app.work();
    if (work) this.#setList(replace(work.annotations, one, by), by);
  }

  /** @param {string} label */
  relabel(label) {
    const selected = this.app.work()?.selected;
    this.app.setLabel(label);
    if (selected && selected.label !== label) this.replaceWith(selected, { label, segment: selected.segment });
    else this.app.changed(false);
  }

  deselect() {
    const work = this.app.work();
    this.mark = null;
    if (work) work.selected = null;
    this.app.changed(false);
  }

  markIn() {
    const selected = this.app.work()?.selected;
    if (selected) return this.replaceWith(selected, moved(selected, "start", this.player.now));
    this.mark = this.player.now;
    this.app.changed(false);
  }

  markOut() {
    const work = this.app.work();
    if (!work) return;
    if (work.selected && this.mark === null) {
      return this.replaceWith(work.selected, moved(work.selected, "end", this.player.now));
    }
    if (this.mark === null) return this.app.say("press I at the start first");
    if (!this.app.label()) return this.app.say("add a class first");
    const [start, end] = [Math.min(this.mark, this.player.now), Math.max(this.mark, this.player.now)];
    if (end <= start) return this.app.say("the end must lie after the start");
    /** @type {Annotation} */
    const made = { label: this.app.label(), segment: [start, end] };
    this.mark = null;
    this.#setList(add(work.annotations, made), made);
  }

  split() {
    const work = this.app.work();
    const one = work && (work.selected ?? this.#under());
    if (work && one) this.#setList(split(work.annotations, one, this.player.now), null);
  }

  merge() {
    const work = this.app.work();
    const one = work && (work.selected ?? this.#under());
    if (!work || !one) return;
    const { list, merged } = merge(work.annotations, one);
    if (merged) this.#setList(list, merged);
    else this.app.say(`no later segment of ${one.label}`);
  }

  remove() {
    const work = this.app.work();
    if (work?.selected) this.#setList(remove(work.annotations, work.selected), null);
  }

  /** @param {DraftSegment[]} drafts */
  accept(drafts) {
    const work = this.app.work();
    if (!work || !drafts.length) return;
    const added = drafts.map(({ label, segment }) => ({ label, segment }));
    this.#setList(add(work.annotations, ...added), added.length === 1 ? added[0] : null);
  }

  acceptHere() {
    const now = this.player.now;
    const drafts = this.app.work()?.shown.drafts ?? [];
    const here = drafts.filter((draft) => draft.segment[0] <= now && now < draft.segment[1]);
    if (here.length) this.accept(here);
    else this.app.say("no draft at the playhead");
  }

  acceptAll() {
    this.accept(this.app.work()?.shown.drafts ?? []);
  }

  undo() {
    if (this.app.work()?.undo()) this.app.changed(true);
  }

  redo() {
    if (this.app.work()?.redo()) this.app.changed(true);
  }

  #under() {
    const now = this.player.now;
    const list = this.app.work()?.annotations ?? [];
    return list.find((one) => one.segment[0] <= now && now < one.segment[1]) ?? null;
  }
}
