// The page as a whole: opens videos, shows what changed, saves, and follows the server's events.

import { Actions } from "./actions.js";
import { showAgreement } from "./agreement.js";
import { call } from "./api.js";
import { openConflict } from "./conflict.js";
import { Details } from "./details.js";
import { byId, clock } from "./dom.js";
import { VideoList } from "./list.js";
import { notice } from "./notices.js";
import { Player } from "./player.js";
import { Saver } from "./saver.js";
import { Timeline } from "./timeline.js";
import { Work } from "./work.js";

/** @typedef {import("./types.js").Project} Project */
/** @typedef {import("./types.js").Shown} Shown */
/** @typedef {import("./saver.js").Pending} Pending */

export class App {
  /** @param {Project} project */
  constructor(project) {
    this.project = project;
    /** @type {Work | null} */
    this.work = null;
    this.label = project.labels[0] ?? "";
    this.choices = 0; // of a class, counted
    this.opening = "";
    this.list = new VideoList((id) => void this.open(id));
    this.player = new Player(byId("video", HTMLVideoElement), {
      moved: (seconds) => this.#moved(seconds),
      failed: () => this.#unplayable(),
      loaded: () => this.draw(),
    });
    this.actions = new Actions(this.player, {
      work: () => this.work,
      changed: (saves) => (saves ? this.#save() : this.draw()),
      label: () => this.label,
      setLabel: (label) => {
        this.label = label;
        this.choices += 1;
      },
      say: (text) => this.say(text),
    });
    this.timeline = new Timeline({
      seek: (seconds) => void this.player.seek(seconds),
      select: (one) => this.actions.select(one),
      replace: (one, by) => this.actions.replaceWith(one, by),
      accept: (draft) => this.actions.accept([draft]),
      activate: (label) => this.actions.relabel(label),
      snap: (seconds) => this.player.frames.nearest(seconds),
      near: (seconds) => void this.player.frames.ensure(seconds),
    });
    this.details = new Details(project.who, {
      change: (values) => this.actions.change(values),
      layer: (layer) => this.#setLayer(layer),
    });
    this.saver = new Saver(project.truth, {
      saved: (shown) => this.#saved(shown),
      state: (text, failed) => this.#saveState(text, failed),
      conflict: (id, pending, current) => this.#conflict(id, pending, current),
    });
    this.setProject(project);
  }

  /** @param {Project} project */
  setProject(project) {
    this.project = project;
    if (!project.labels.includes(this.label)) this.label = project.labels[0] ?? "";
    byId("project-name", HTMLSpanElement).textContent = project.folder;
    notice("read-only", project.readOnly ?? "");
    this.details.setScenes(project.scenes);
    this.draw();
  }

  async refreshProject() {
    this.setProject(await call("/api/project"));
  }

  async refreshList() {
    this.list.setLines((await call("/api/videos")).videos);
  }

  /** @param {string} id @param {number} seconds where to stand */
  async open(id, seconds = 0) {
    document.body.classList.remove("show-list");
    this.opening = id;
    const shown = await call("/api/video", { id });
    if (this.opening !== id) return; // another one was chosen meanwhile
    history.replaceState(null, "", `#${new URLSearchParams({ video: id })}`);
    this.actions.mark = null;
    this.work = new Work(shown, "");
    byId("unplayable", HTMLDivElement).hidden = true;
    this.player.load(id, shown.seconds, false);
    this.timeline.zoomBy(0, 0);
    this.list.setCurrent(id);
    this.#offerKept(id, shown);
    if (seconds) void this.player.seek(seconds);
    this.draw();
  }

  /** Shows the server's state of a video after a change elsewhere. @param {string} id */
  async refresh(id) {
    const before = this.work?.shown;
    const shown = await call("/api/video", { id });
    this.list.update(shown);
    const work = this.work;
    if (!work || work.id !== id || this.saver.waits(id)) return;
    if (work.shown !== before) {
      await this.refresh(id); // saved while the answer was on its way: it may be the older state
      return;
    }
    if (shown.etag === work.shown.etag) {
      work.adopt(shown);
    } else {
      this.work = new Work(shown, work.layer);
      this.say("changed elsewhere; this is the new state");
    }
    await this.#learnLabels(shown);
    this.draw();
  }

  draw() {
    const work = this.work;
    if (!work) return;
    byId("video-title", HTMLHeadingElement).textContent = work.id;
    this.timeline.show({
      labels: this.project.labels,
      colors: this.project.colors,
      seconds: Math.max(0.1, work.shown.seconds ?? 0, this.player.duration, this.#lastEnd(work)),
      annotations: work.annotations,
      drafts: work.layer ? [] : work.shown.drafts,
      selected: work.selected,
      active: this.label,
    });
    this.timeline.setNow(this.player.now, false);
    this.details.show(work);
    notice("draft", work.shown.draftFailure ? `no draft: ${work.shown.draftFailure}` : "");
    byId("selection", HTMLParagraphElement).textContent = this.#selectionText(work);
    byId("undo", HTMLButtonElement).disabled = !work.past.length;
    byId("redo", HTMLButtonElement).disabled = !work.future.length;
    document.documentElement.dataset.ready = work.id;
  }

  /** @param {string} text */
  say(text) {
    byId("selection", HTMLParagraphElement).textContent = text;
  }

  finish() {
    if (!this.work) return;
    this.actions.change({ state: "done" });
    const next = this.list.nextUndone();
    if (next) void this.open(next);
    else this.say("all videos of the list are done");
  }

  /** @param {number} direction */
  openNeighbour(direction) {
    const id = this.list.neighbour(direction);
    if (id) void this.open(id);
  }

  /** @param {string} name */
  async addLabel(name) {
    const label = name.trim();
    if (!label) return;
    const before = this.choices;
    if (!this.project.labels.includes(label)) {
      const body = { labels: [...this.project.labels, label], who: this.details.who };
      try {
        this.setProject(await call("/api/names", {}, { method: "PUT", body }));
      } catch (error) {
        return this.#saveState(`class not added: ${error instanceof Error ? error.message : error}`, true);
      }
    }
    if (this.choices === before) this.actions.relabel(label); // else a class was chosen meanwhile
  }

  compare() {
    return showAgreement(this.work);
  }

  async makeProxy() {
    const work = this.work;
    if (!work) return;
    byId("unplayable-text", HTMLParagraphElement).textContent = "making a copy …";
    const state = await call("/api/proxy", { id: work.id }, { method: "POST" });
    if (state.ready) this.playProxy(work.id);
  }

  /** @param {any} event */
  proxyNews(event) {
    if (event.id !== this.work?.id) return;
    const text = byId("unplayable-text", HTMLParagraphElement);
    if (event.ready) this.playProxy(event.id);
    else text.textContent = event.failure ?? `making a copy … ${clock(event.reached, 0)}`;
  }

  /** @param {string} id */
  playProxy(id) {
    byId("unplayable", HTMLDivElement).hidden = true;
    this.player.load(id, this.work?.shown.seconds ?? null, true);
  }

  /** @param {Work} work */
  #lastEnd(work) {
    return Math.max(0, ...work.annotations.slice(-50).map((one) => one.segment[1]));
  }

  /** @param {Work} work */
  #selectionText(work) {
    if (work.selected) {
      const [start, end] = work.selected.segment;
      return `${work.selected.label}: ${clock(start)} – ${clock(end)} (${(end - start).toFixed(3)} s)`;
    }
    if (this.actions.mark !== null) return `start at ${clock(this.actions.mark)}; O ends the segment of ${this.label}`;
    return `${work.annotations.length} segments, ${work.shown.drafts.length} drafts`;
  }

  /** @param {number} seconds */
  #moved(seconds) {
    byId("clock", HTMLOutputElement).value = clock(seconds);
    this.timeline.setNow(seconds, true);
  }

  #unplayable() {
    byId("unplayable", HTMLDivElement).hidden = false;
    byId("unplayable-text", HTMLParagraphElement).textContent =
      "This browser does not play the coding of this video. The times and drafts are there; a copy in H.264 can be made.";
  }

  #save() {
    const work = this.work;
    if (!work) return;
    this.saver.put(work.id, { base: work.shown.etag, edit: work.snapshot(), who: this.details.who });
    this.draw();
  }

  /** @param {Shown} shown */
  #saved(shown) {
    this.list.update(shown);
    if (this.work?.id === shown.id) {
      this.work.adopt(shown);
      this.draw();
    }
    if (this.project.readOnly) void this.refreshProject();
  }

  /** @param {string} layer */
  #setLayer(layer) {
    if (!this.work) return;
    this.work = new Work(this.work.shown, layer);
    this.draw();
  }

  /** @param {string} text @param {boolean} failed */
  #saveState(text, failed) {
    const line = byId("save-state", HTMLParagraphElement);
    line.textContent = text;
    line.classList.toggle("failed", failed);
  }

  /** @param {Shown} shown */
  async #learnLabels(shown) {
    const used = [...shown.annotations, ...shown.drafts].map((one) => one.label);
    if (used.some((label) => !this.project.labels.includes(label))) await this.refreshProject();
  }

  /** Takes up an edit that an earlier page could not save. @param {string} id @param {Shown} shown */
  #offerKept(id, shown) {
    const kept = this.saver.waits(id) ? null : this.saver.kept(id);
    if (!kept) return;
    if (kept.base !== shown.etag) return this.#conflict(id, kept, shown);
    this.work = new Work(shown, kept.edit.layer);
    this.work.change(kept.edit);
    this.saver.put(id, kept);
    this.say("an edit that was not saved before was taken up");
  }

  /** @param {string} id @param {Pending} mine @param {Shown} theirs */
  #conflict(id, mine, theirs) {
    this.#saveState("not saved: changed elsewhere", true);
    openConflict(id, mine, theirs, {
      keep: () => this.saver.put(id, { ...mine, base: theirs.etag }),
      take: () => {
        this.saver.drop(id);
        if (this.work?.id === id) this.work = new Work(theirs, mine.edit.layer);
        this.draw();
      },
    });
  }
}
