// The video: playing, and stepping from frame to frame by their own presentation times.

import { address } from "./api.js";
import { Frames } from "./frames.js";

const RATES = [0.25, 0.5, 1, 2, 4, 8];

export class Player {
  /**
   * @param {HTMLVideoElement} video
   * @param {{moved: (seconds: number) => void, failed: () => void, loaded: () => void}} on
   */
  constructor(video, on) {
    this.video = video;
    this.on = on;
    this.frames = new Frames("", 0);
    this.now = 0;
    this.offset = 0; // of the browser's time, which may begin with the sound, to that of the first frame
    this.failed = true;
    this.wanted = 0;
    video.addEventListener("error", () => {
      if (!video.getAttribute("src")) return;
      this.failed = true;
      on.failed();
    });
    video.addEventListener("loadeddata", () => this.#loaded());
    video.addEventListener("play", () => this.#follow());
    video.addEventListener("pause", () => void this.#settle());
  }

  /** @param {string} id @param {number | null} seconds @param {boolean} proxy */
  load(id, seconds, proxy) {
    this.frames = new Frames(id, seconds);
    this.now = this.wanted = this.offset = 0;
    this.failed = false;
    const parameters = /** @type {Record<string, string>} */ (proxy ? { id, proxy: "1" } : { id });
    this.video.src = address("/media", parameters);
    this.video.playbackRate = 1;
    void this.frames.ensure(0);
  }

  get duration() {
    const length = this.video.duration;
    return Number.isFinite(length) ? Math.max(0, length - this.offset) : 0;
  }

  /** Shows the frame of a moment. @param {number} seconds */
  async seek(seconds) {
    const wanted = Math.max(0, this.duration ? Math.min(seconds, this.duration) : seconds);
    const turn = ++this.wanted;
    this.#moveTo(this.frames.floor(wanted));
    await this.frames.ensure(wanted);
    if (turn !== this.wanted) return; // another seek came meanwhile
    const start = this.frames.floor(wanted);
    this.#moveTo(start);
    if (!this.failed) this.video.currentTime = this.offset + this.frames.inside(start);
  }

  /** @param {number} count frames to go, negative: back */
  async step(count) {
    this.video.pause();
    await this.frames.ensure(this.now);
    await this.seek(this.frames.step(this.now, count));
  }

  toggle() {
    if (this.video.paused) this.play(1);
    else this.video.pause();
  }

  /** @param {number} rate */
  play(rate) {
    if (this.failed) return;
    this.video.playbackRate = rate;
    void this.video.play().catch(() => undefined);
  }

  faster() {
    const at = RATES.indexOf(this.video.playbackRate);
    this.play(this.video.paused ? 1 : RATES[Math.min(RATES.length - 1, at + 1)]);
  }

  #loaded() {
    this.offset = 0;
    const first = (/** @type {number} */ _, /** @type {VideoFrameCallbackMetadata} */ about) => {
      if (this.video.currentTime < 0.5) this.offset = about.mediaTime;
      this.on.loaded();
    };
    this.video.requestVideoFrameCallback(first);
    this.on.loaded();
  }

  #follow() {
    this.video.requestVideoFrameCallback((_, about) => {
      if (this.video.paused) return;
      const seconds = Math.max(0, about.mediaTime - this.offset);
      void this.frames.ensure(seconds);
      this.#moveTo(this.frames.nearest(seconds));
      this.#follow();
    });
  }

  /** Stands exactly on a frame after playing. */
  async #settle() {
    const seconds = Math.max(0, this.video.currentTime - this.offset);
    if (this.wanted && Math.abs(seconds - this.now) < 0.001) return;
    await this.frames.ensure(seconds);
    if (this.video.paused) this.#moveTo(this.frames.floor(seconds));
  }

  /** @param {number} seconds */
  #moveTo(seconds) {
    this.now = seconds;
    this.on.moved(seconds);
  }
}
