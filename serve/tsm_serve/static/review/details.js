// State, subset, scene, comment, annotator and layer of the video at hand.

import { byId, make } from "./dom.js";

/** @typedef {import("./types.js").Edit} Edit */
/** @typedef {import("./work.js").Work} Work */

const WHO_KEY = "tsm-review who";

export class Details {
  /**
   * @param {string} who
   * @param {{change: (values: Partial<Edit>) => void, layer: (layer: string) => void}} on
   */
  constructor(who, on) {
    this.state = byId("state", HTMLSelectElement);
    this.subset = byId("subset", HTMLSelectElement);
    this.scene = byId("scene", HTMLInputElement);
    this.comment = byId("comment", HTMLTextAreaElement);
    this.whoField = byId("who", HTMLInputElement);
    this.layer = byId("layer", HTMLSelectElement);
    this.whoField.value = localStorage.getItem(WHO_KEY) ?? who;
    this.whoField.addEventListener("change", () => localStorage.setItem(WHO_KEY, this.who));
    byId("details", HTMLFormElement).addEventListener("submit", (event) => event.preventDefault());
    this.state.addEventListener("change", () => on.change({ state: /** @type {Edit["state"]} */ (this.state.value) }));
    this.subset.addEventListener("change", () => on.change({ subset: this.subset.value }));
    this.scene.addEventListener("change", () => on.change({ scene: this.scene.value.trim() }));
    this.comment.addEventListener("change", () => on.change({ comment: this.comment.value }));
    this.layer.addEventListener("change", () => on.layer(this.layer.value === "+" ? this.who : this.layer.value));
  }

  get who() {
    return this.whoField.value.trim();
  }

  /** @param {string[]} scenes */
  setScenes(scenes) {
    byId("scenes", HTMLDataListElement).replaceChildren(...scenes.map((scene) => make("option", { value: scene })));
  }

  /** @param {Work} work */
  show(work) {
    this.state.value = work.state;
    if (![...this.subset.options].some((option) => option.value === work.subset)) {
      this.subset.append(make("option", {}, work.subset));
    }
    this.subset.value = work.subset;
    if (document.activeElement !== this.scene) this.scene.value = work.scene;
    if (document.activeElement !== this.comment) this.comment.value = work.comment;
    const best = work.shown.draftScenes[0];
    this.scene.placeholder = best ? `draft: ${best.label} (${best.score.toFixed(2)})` : "none";
    const layers = [...new Set([...Object.keys(work.shown.others), ...(work.layer ? [work.layer] : [])])];
    this.layer.replaceChildren(
      make("option", { value: "" }, "for training"),
      ...layers.map((name) => make("option", { value: name }, `second, by ${name}`)),
      ...(layers.includes(this.who) ? [] : [make("option", { value: "+" }, "second, by me (new)")]),
    );
    this.layer.value = work.layer;
  }
}
