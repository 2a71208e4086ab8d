// Which segments are shown: those of the ticked classes that reach the minimum score.

class Filters {
  constructor(labels, colors, onChange) {
    this.labels = labels;
    this.colors = colors;
    this.hidden = new Set();
    this.minScore = 0;
    this.onChange = onChange;
    byId("min-score").addEventListener("input", (event) => {
      this.minScore = Number(event.target.value);
      byId("min-score-value").textContent = this.minScore.toFixed(2);
      onChange();
    });
    byId("classes-all").addEventListener("click", () => this.#setAll(true));
    byId("classes-none").addEventListener("click", () => this.#setAll(false));
    byId("quiet").addEventListener("change", onChange);
  }

  /** Make a box to tick for each class; counts: Map of label to number of segments. */
  open(counts, hasStrip) {
    for (const chip of byId("classes").querySelectorAll(".chip")) chip.remove();
    this.boxes = [...counts.keys()].sort((a, b) => a - b).map((label) => this.#makeBox(label, counts.get(label)));
    byId("classes").hidden = this.boxes.length === 0;
    byId("quiet-field").hidden = !hasStrip;
  }

  #makeBox(label, count) {
    const box = make("input", { type: "checkbox" });
    box.checked = !this.hidden.has(label);
    box.dataset.label = label;
    box.addEventListener("change", () => { this.#set(label, box.checked); this.onChange(); });
    byId("classes").append(make("label", { class: `chip ${colorClass(this.colors[label])}` }, box,
      make("span", { class: "swatch", "aria-hidden": "true" }), make("span", {}, this.labels[label]),
      make("small", { class: "muted" }, String(count))));
    return box;
  }

  #set(label, on) {
    if (on) this.hidden.delete(label);
    else this.hidden.add(label);
  }

  #setAll(on) {
    for (const box of this.boxes) {
      box.checked = on;
      this.#set(Number(box.dataset.label), on);
    }
    this.onChange();
  }

  get showQuiet() { return byId("quiet").checked; }

  showsLabel(label) { return !this.hidden.has(label); }

  /** True segments have no score to be judged by. */
  shows(segment) {
    return this.showsLabel(segment.label) && (segment.kind === "true" || segment.score >= this.minScore);
  }
}
