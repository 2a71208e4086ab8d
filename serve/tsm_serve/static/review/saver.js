// Saves edits at once, one request at a time. What is not saved yet is also kept in this browser.

import { call, Refused } from "./api.js";

/** @typedef {import("./types.js").Edit} Edit */
/** @typedef {import("./types.js").Shown} Shown */
/** @typedef {{base: string, edit: Edit, who: string}} Pending */

const RETRY_MILLISECONDS = 2000;

export class Saver {
  /**
   * @param {string} truth path of the truth file, which tells projects apart
   * @param {{saved: (shown: Shown) => void, state: (text: string, failed: boolean) => void,
   *   conflict: (id: string, pending: Pending, current: Shown) => void}} on
   */
  constructor(truth, on) {
    this.prefix = `tsm-review ${truth} `;
    this.on = on;
    /** @type {Map<string, Pending>} */
    this.pending = new Map();
    this.busy = false;
  }

  /** @param {string} id @returns {Pending | null} an edit that an earlier page could not save */
  kept(id) {
    const text = localStorage.getItem(this.prefix + id);
    try {
      return text ? JSON.parse(text) : null;
    } catch {
      return null;
    }
  }

  /** @returns {string[]} ids of videos with edits that an earlier page could not save */
  keptIds() {
    return Object.keys(localStorage)
      .filter((key) => key.startsWith(this.prefix))
      .map((key) => key.slice(this.prefix.length));
  }

  /** @param {string} id @param {Pending} pending */
  put(id, pending) {
    const waiting = this.pending.get(id);
    const entry = { ...pending, base: waiting ? waiting.base : pending.base };
    this.pending.set(id, entry);
    this.#keep(id, entry);
    this.on.state("saving …", false);
    void this.#work();
  }

  /** @param {string} id forget an edit */
  drop(id) {
    this.pending.delete(id);
    localStorage.removeItem(this.prefix + id);
    if (!this.pending.size) this.on.state("", false);
  }

  /** @param {string} id */
  waits(id) {
    return this.pending.has(id);
  }

  /** @param {string} id @param {Pending} entry */
  #keep(id, entry) {
    try {
      localStorage.setItem(this.prefix + id, JSON.stringify(entry));
    } catch {
      // the browser's store is full: the edit is still in this page and on its way to the server
    }
  }

  async #work() {
    if (this.busy) return;
    this.busy = true;
    while (this.pending.size) {
      const [id, sent] = /** @type {[string, Pending]} */ (this.pending.entries().next().value);
      try {
        const shown = await call("/api/video", { id }, { method: "PUT", body: sent });
        this.#done(id, sent, shown);
      } catch (error) {
        if (error instanceof Refused && error.status === 409 && error.current) {
          this.pending.delete(id);
          this.on.conflict(id, sent, error.current);
        } else if (error instanceof Refused && error.status === 401) {
          this.on.state("not saved: the server was started anew; open the address that it printed", true);
          break; // the page at that address finds the edit in this browser
        } else if (error instanceof Refused && error.status < 500) {
          this.drop(id);
          this.on.state(`refused: ${error.message}`, true);
        } else {
          const reason = error instanceof Refused ? error.message : "the server does not answer";
          this.on.state(`not saved: ${reason}; kept in this browser, trying again`, true);
          await new Promise((done) => setTimeout(done, RETRY_MILLISECONDS));
        }
      }
    }
    this.busy = false;
  }

  /** @param {string} id @param {Pending} sent @param {Shown} shown */
  #done(id, sent, shown) {
    const waiting = this.pending.get(id);
    if (waiting === sent || !waiting) {
      this.drop(id);
    } else {
      waiting.base = shown.etag; // edited again meanwhile
      this.#keep(id, waiting);
    }
    if (!this.pending.size) this.on.state("saved", false);
    this.on.saved(shown);
  }
}
