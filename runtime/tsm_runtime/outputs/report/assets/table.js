// The segments as a table; a click on a heading sorts by it. The roles say what the style's grids hide.

const FIRST_ROWS = 250;

class SegmentTable {
  constructor(labels, colors, onChoose) {
    this.labels = labels;
    this.colors = colors;
    this.onChoose = onChoose;
    this.order = { key: "start", down: false };
    this.limit = FIRST_ROWS;
    this.body = make("tbody", { role: "rowgroup" });
    this.heads = [
      ["label", "Class"], ["start", "Start"], ["end", "End"], ["length", "Length"], ["score", "Score"],
    ].map(([key, text]) => this.#makeHead(key, text));
    const head = make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...this.heads));
    byId("segments").append(head, this.body);
    byId("more").addEventListener("click", () => { this.limit = Infinity; this.show(this.segments); });
  }

  #makeHead(key, text) {
    const button = make("button", { type: "button" }, text, make("span", { "aria-hidden": "true" }));
    button.addEventListener("click", () => {
      this.order = { key, down: this.order.key === key ? !this.order.down : key === "score" };
      this.show(this.segments);
    });
    const head = make("th", { role: "columnheader", scope: "col", class: key }, button);
    head.dataset.key = key;
    return head;
  }

  /** The segments that are shown, those beyond the limit too, in the order of the table. */
  sorted() {
    const { key, down } = this.order;
    const sign = down ? -1 : 1;
    return [...this.segments].sort((a, b) => sign * (value(a, key) - value(b, key)) || a.start - b.start);
  }

  /** Fill the table with segments, in its order; rows beyond the limit wait for a button. */
  show(segments) {
    this.segments = segments;
    const { key, down } = this.order;
    const sorted = this.sorted();
    this.body.replaceChildren(...sorted.slice(0, this.limit).map((segment) => this.#rowOf(segment)));
    for (const head of this.heads) {
      const mine = head.dataset.key === key;
      head.setAttribute("aria-sort", mine ? (down ? "descending" : "ascending") : "none");
      head.querySelector("span").textContent = mine ? (down ? " \u25bc" : " \u25b2") : "";
    }
    byId("more").hidden = sorted.length <= this.limit;
    byId("more").textContent = `Show all ${sorted.length} rows`;
  }

  #rowOf(segment) {
    segment.row ??= this.#makeRow(segment);
    return segment.row;
  }

  #makeRow(segment) {
    const go = make("button", { type: "button", class: "go" }, clock(segment.start));
    const name = make("div", { class: `class-cell ${colorClass(this.colors[segment.label])}` },
      make("span", { class: "swatch", "aria-hidden": "true" }), make("span", {}, this.labels[segment.label]));
    const cell = (kind, content) => make("td", { role: "cell", class: kind }, content);
    const row = make("tr", { role: "row" }, cell(null, name), cell(null, go), cell(null, clock(segment.end)),
      cell("length", `${(segment.end - segment.start).toFixed(2)} s`),
      cell(null, segment.kind === "true" ? "true" : segment.score.toFixed(3)));
    row.addEventListener("click", () => this.onChoose(segment));
    return row;
  }

  mark(segment) {
    this.marked?.row?.removeAttribute("aria-current");
    this.marked = segment;
    segment?.row?.setAttribute("aria-current", "true");
  }
}

function value(segment, key) {
  return key === "length" ? segment.end - segment.start : segment[key];
}
