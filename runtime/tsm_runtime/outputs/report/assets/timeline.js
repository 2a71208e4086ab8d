// Rows of classes over time. Segments are placed in percent of the track, so zooming changes one width only.

const MAX_PIXELS_PER_SECOND = 1000;
const MAX_TRACK_PIXELS = 8e6;
const TICK_PIXELS = 90;
const TICK_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600];

class Timeline {
  /** actions: {seek(seconds), choose(segment), step(direction)}. */
  constructor(labels, colors, actions) {
    this.labels = labels;
    this.colors = colors;
    this.actions = actions;
    this.box = byId("timeline");
    this.zoom = 1;
    this.redraw = oncePerFrame(() => this.#drawVisible());
    this.box.addEventListener("scroll", this.redraw, { passive: true });
    this.box.addEventListener("keydown", (event) => this.#onKey(event));
    this.box.addEventListener("wheel", (event) => this.#onWheel(event), { passive: false });
    new ResizeObserver(() => { if (this.video) this.#setZoom(this.zoom); }).observe(this.box);
    byId("zoom-in").addEventListener("click", () => this.zoomBy(2));
    byId("zoom-out").addEventListener("click", () => this.zoomBy(0.5));
    byId("zoom-fit").addEventListener("click", () => this.zoomBy(0));
  }

  /** Build the rows of a video; lanes are [{name, kind, segments}] from the top. */
  open(video, lanes, strip, sound) {
    this.video = video;
    this.strip = strip;
    this.rows = [];
    this.sheet = make("div", { class: "sheet" }, this.#makeRuler(), this.#makeGaps());
    for (const label of this.#rowLabels(lanes)) {
      const row = this.#makeRow(label, lanes);
      this.rows.push(row);
      this.sheet.append(row.element);
    }
    if (!this.rows.length) this.sheet.append(make("p", { class: "empty" }, "Nothing was found in this video."));
    if (sound) this.sheet.append(this.#makeSound(sound));
    this.playhead = make("div", { class: "playhead" });
    this.sheet.append(this.playhead);
    this.box.replaceChildren(this.sheet);
    this.box.scrollTo(0, 0);
    this.#setZoom(1);
  }

  // --- building ---

  #rowLabels(lanes) {
    const used = new Set(lanes.flatMap((lane) => lane.segments.map((segment) => segment.label)));
    for (const label of this.strip?.labels ?? []) used.add(label);
    return [...used].sort((a, b) => a - b);
  }

  #makeRuler() {
    this.corner = make("div", { class: "corner" });
    this.grip = make("div", { class: "playhead-grip" });
    this.ticks = make("div");
    this.track = make("div", {
      class: "ruler-track", role: "slider", tabindex: "0", "aria-label": "Position in the video",
      "aria-valuemin": "0", "aria-valuemax": this.video.duration.toFixed(2),
    }, this.ticks, this.grip);
    this.#scrubWith(this.track);
    return make("div", { class: "ruler" }, this.corner, this.track);
  }

  #makeGaps() {
    const gaps = this.video.gaps.map(([start, end]) => {
      const gap = make("div", { class: "gap" });
      this.#place(gap, start, end);
      return gap;
    });
    return make("div", { class: "gaps", "aria-hidden": "true" }, ...gaps);
  }

  #makeRow(label, lanes) {
    const name = this.labels[label];
    const mine = lanes.map((lane) => lane.segments.filter((segment) => segment.label === label));
    const tags = make("div", { class: "tags", "aria-hidden": "true" });
    const track = make("div", { class: "lanes" });
    lanes.forEach((lane, i) => {
      if (!mine.flat().length) return;
      const depth = Math.max(1, ...mine[i].map((segment) => segment.lane + 1));
      const tag = make("div", { title: lane.name }, lane.name);
      const row = make("div", { class: "lane" }, ...mine[i].map((segment) => this.#makeSegment(segment, lane)));
      for (const element of [tag, row]) element.style.setProperty("--lanes", depth);
      tags.append(tag);
      track.append(row);
    });
    let heat = null;
    if (this.strip?.row.has(label)) {
      heat = make("canvas", { class: "heat", height: "1", "aria-hidden": "true" });
      tags.append(make("div", { class: "heat-tag" }, "score"));
      track.append(heat);
    }
    this.#scrubWith(track);
    const swatch = make("span", { class: "swatch" });
    const element = make("div", { class: `row ${colorClass(this.colors[label])}`, role: "group", "aria-label": name },
      make("div", { class: "row-name", title: name }, swatch, make("span", {}, name)), tags, track);
    return { label, element, heat, swatch, segments: mine.flat() };
  }

  /** A row with the peaks of the sound: base64 of bytes, spread over the length of the video. */
  #makeSound(sound) {
    const peaks = [...atob(sound)].map((c) => c.charCodeAt(0) / 255);
    const path = peaks.map((peak, x) => `M${x} ${50 - 48 * peak}h1V${50 + 48 * peak}h-1z`).join("");
    const drawing = makeSvg("svg", {
      viewBox: `0 0 ${peaks.length} 100`, preserveAspectRatio: "none", role: "img", "aria-label": "Loudness of the sound",
    }, makeSvg("path", { d: path }));
    const track = make("div", { class: "lanes sound" }, drawing);
    this.#scrubWith(track);
    return make("div", { class: "row" },
      make("div", { class: "row-name whole" }, make("span", {}, "sound")), make("div", { class: "tags" }), track);
  }

  #makeSegment(segment, lane) {
    const score = lane.kind === "true" ? "" : `, score ${segment.score.toFixed(2)}`;
    const text = `${this.labels[segment.label]}, ${clock(segment.start)} to ${clock(segment.end)}${score}, ${lane.name}`;
    const button = make("button", { type: "button", class: `segment ${lane.kind}`, "aria-label": text, title: text });
    this.#place(button, segment.start, segment.end);
    if (segment.lane) button.style.setProperty("--n", segment.lane);
    button.addEventListener("click", () => this.actions.choose(segment));
    segment.button = button;
    button.segment = segment;
    return button;
  }

  #place(element, start, end) {
    const length = this.video.duration || 1;
    element.style.left = `${(100 * start) / length}%`;
    element.style.width = `${(100 * (end - start)) / length}%`;
  }

  // --- filters and time ---

  /** Show only what `visible(segment)` and `rowVisible(label)` let through; quiet rows have no segment. */
  filter(visible, rowVisible, showQuiet) {
    for (const row of this.rows) {
      for (const segment of row.segments) segment.button.hidden = !visible(segment);
      row.element.hidden = !rowVisible(row.label) || (!row.segments.length && !showQuiet);
    }
    this.redraw();
  }

  showTime(seconds, follow) {
    if (!this.sheet) return;
    const x = (seconds / (this.video.duration || 1)) * this.trackWidth;
    this.playhead.style.transform = this.grip.style.transform = `translateX(${x}px)`;
    this.corner.textContent = clock(seconds);
    this.track.setAttribute("aria-valuenow", seconds.toFixed(2));
    this.track.setAttribute("aria-valuetext", clock(seconds));
    const left = this.box.scrollLeft;
    if (follow && (x < left || x > left + this.viewWidth)) this.box.scrollLeft = x - 0.1 * this.viewWidth;
    this.seconds = seconds;
  }

  mark(segment) {
    this.marked?.button.removeAttribute("aria-current");
    this.marked = segment;
    segment?.button.setAttribute("aria-current", "true");
  }

  // --- zoom and scroll ---

  /** Multiply the zoom, 0 for the whole video, keeping `seconds` where it is on the screen. */
  zoomBy(factor, seconds = this.seconds ?? 0) {
    const before = (seconds / this.video.duration) * this.trackWidth - this.box.scrollLeft;
    const anchor = before >= 0 && before <= this.viewWidth ? before : this.viewWidth / 2;
    this.#setZoom(factor ? this.zoom * factor : 1);
    this.box.scrollLeft = (seconds / this.video.duration) * this.trackWidth - anchor;
  }

  #setZoom(zoom) {
    const length = this.video.duration || 1;
    this.labelWidth = this.corner.getBoundingClientRect().width;
    this.viewWidth = Math.max(50, this.box.clientWidth - this.labelWidth);
    const most = Math.min(length * MAX_PIXELS_PER_SECOND, MAX_TRACK_PIXELS) / this.viewWidth;
    this.zoom = clamp(zoom, 1, Math.max(1, most));
    this.trackWidth = Math.floor(this.viewWidth * this.zoom);
    this.box.style.setProperty("--track", `${this.trackWidth}px`);
    byId("zoom-out").disabled = byId("zoom-fit").disabled = this.zoom === 1;
    byId("zoom-in").disabled = this.zoom >= most;
    this.redraw();
    this.showTime(this.seconds ?? 0, false);
  }

  #onWheel(event) {
    if (!event.ctrlKey) return;
    event.preventDefault();
    this.zoomBy(2 ** (-event.deltaY / 240), this.secondsAt(event.clientX));
  }

  #drawVisible() {
    if (!this.video) return;
    const perPixel = this.video.duration / this.trackWidth;
    const from = this.box.scrollLeft * perPixel;
    const to = from + this.viewWidth * perPixel;
    this.#drawTicks(from, to, perPixel);
    for (const row of this.rows) {
      if (row.heat === null || row.element.hidden) continue;
      row.heat.width = Math.round(this.viewWidth * Math.min(devicePixelRatio, 2));
      row.heat.style.width = `${this.viewWidth}px`;
      const color = getComputedStyle(row.swatch).backgroundColor.match(/\d+/g).slice(0, 3).map(Number);
      this.strip.draw(row.heat, row.label, from, to, color);
    }
  }

  #drawTicks(from, to, perPixel) {
    const step = TICK_SECONDS.find((seconds) => seconds / perPixel >= TICK_PIXELS) ?? TICK_SECONDS.at(-1);
    const decimals = step >= 1 ? 0 : step >= 0.1 ? 1 : 2;
    const ticks = [];
    for (let n = Math.floor(from / step); n * step <= Math.min(to, this.video.duration); n++) {
      const tick = make("span", { class: "tick" }, clock(n * step, step === 0.25 ? 2 : decimals));
      tick.style.left = `${(n * step) / perPixel}px`;
      ticks.push(tick);
    }
    this.ticks.replaceChildren(...ticks);
  }

  // --- pointer and keys ---

  /** The second of the video at a place on the screen. */
  secondsAt(clientX) {
    const x = clientX - this.track.getBoundingClientRect().left;
    return clamp((x / this.trackWidth) * this.video.duration, 0, this.video.duration);
  }

  /** Press anywhere but on a segment to go there; drag to look around. */
  #scrubWith(element) {
    let scrubbing = false;
    element.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || event.target.closest(".segment")) return;
      scrubbing = event.pointerType === "mouse" || element === this.track;
      if (scrubbing) element.setPointerCapture(event.pointerId);
      if (scrubbing) this.actions.seek(this.secondsAt(event.clientX));
    });
    element.addEventListener("pointermove", (event) => {
      if (scrubbing) this.actions.seek(this.secondsAt(event.clientX));
    });
    for (const end of ["pointerup", "pointercancel"]) {
      element.addEventListener(end, () => { scrubbing = false; });
    }
    // A finger that drags scrolls; one that taps goes there.
    element.addEventListener("click", (event) => {
      if (event.target.closest(".segment") || event.pointerType === "mouse") return;
      this.actions.seek(this.secondsAt(event.clientX));
    });
  }

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const segment = event.target.segment;
    const next = segment ? this.#neighbour(segment, event.key) : undefined;
    if (next === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    next?.button.focus();
    next?.button.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  /** The segment a key leads to: null for none, undefined for a key that does not move. */
  #neighbour(segment, key) {
    const index = this.rows.findIndex((row) => row.segments.includes(segment));
    const here = shown(this.rows[index]);
    const at = here.indexOf(segment);
    switch (key) {
      case "ArrowLeft": return here[at - 1] ?? null;
      case "ArrowRight": return here[at + 1] ?? null;
      case "Home": return here[0];
      case "End": return here.at(-1);
      case "ArrowUp": return nearest(this.rows.slice(0, index).reverse(), segment);
      case "ArrowDown": return nearest(this.rows.slice(index + 1), segment);
      default: return undefined;
    }
  }
}

const colorClass = (slot) => (slot < 0 ? "background" : `c${slot}`);

/** Visible segments of a row by time. */
function shown(row) {
  if (row.element.hidden) return [];
  return row.segments.filter((segment) => !segment.button.hidden).sort((a, b) => a.start - b.start || a.end - b.end);
}

/** In the first row that shows any, the segment that starts nearest. */
function nearest(rows, segment) {
  const row = rows.map(shown).find((segments) => segments.length);
  if (!row) return null;
  const distance = (other) => Math.abs(other.start - segment.start);
  return row.reduce((best, other) => (distance(other) < distance(best) ? other : best));
}
