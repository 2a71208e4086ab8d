// Presentation times of the current video's frames, in blocks that the server reads from the file.

import { call } from "./api.js";

const BLOCK_SECONDS = 10;

export class Frames {
  /** @param {string} id @param {number | null} seconds length of the video, where known */
  constructor(id, seconds) {
    this.id = id;
    this.numBlocks = seconds === null ? Infinity : Math.floor(seconds / BLOCK_SECONDS) + 1;
    /** @type {Map<number, number[]>} */
    this.blocks = new Map();
    /** @type {Map<number, Promise<void>>} */
    this.loading = new Map();
  }

  /** Reads what is needed to know the frames around a moment. @param {number} seconds */
  async ensure(seconds) {
    const block = Math.floor(Math.max(0, seconds) / BLOCK_SECONDS);
    const inside = Math.max(0, seconds) - block * BLOCK_SECONDS;
    const wanted = [block];
    if (inside < 2) wanted.push(block - 1);
    if (inside > BLOCK_SECONDS - 2) wanted.push(block + 1);
    await Promise.all(wanted.filter((n) => n >= 0 && n < this.numBlocks).map((n) => this.#load(n)));
  }

  /** @param {number} seconds @returns {number} start of the frame on screen then, as far as known */
  floor(seconds) {
    let found = 0;
    for (const time of this.#around(seconds)) {
      if (time > seconds + 1e-6) break;
      found = time;
    }
    return found;
  }

  /** @param {number} seconds @returns {number} the nearest start of a frame, or `seconds` where none is known */
  nearest(seconds) {
    let best = seconds;
    let distance = Infinity;
    for (const time of this.#around(seconds)) {
      if (Math.abs(time - seconds) < distance) [best, distance] = [time, Math.abs(time - seconds)];
    }
    return distance < 1 ? best : seconds;
  }

  /** @param {number} seconds @param {number} count frames to go @returns {number} start of that frame */
  step(seconds, count) {
    const times = this.#around(seconds);
    const at = times.findLastIndex((time) => time <= seconds + 1e-6);
    return times[Math.max(0, Math.min(times.length - 1, at + count))] ?? seconds;
  }

  /** @param {number} start of a frame @returns {number} a moment safely inside the time it is on screen */
  inside(start) {
    const next = this.step(start, 1);
    return next > start ? (start + next) / 2 : start + 0.001;
  }

  /** @param {number} seconds */
  #around(seconds) {
    const block = Math.floor(Math.max(0, seconds) / BLOCK_SECONDS);
    return [block - 1, block, block + 1].flatMap((number) => this.blocks.get(number) ?? []);
  }

  /** @param {number} number */
  #load(number) {
    if (this.blocks.has(number)) return Promise.resolve();
    const running = this.loading.get(number);
    if (running) return running;
    const loading = call("/api/times", { id: this.id, block: number })
      .then((answer) => void this.blocks.set(number, answer.times))
      .catch(() => undefined)
      .finally(() => this.loading.delete(number));
    this.loading.set(number, loading);
    return loading;
  }
}
