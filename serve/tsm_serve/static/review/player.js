// The video: playing, and stepping from frame to frame by their own presentation times.

import { address } from "./api.js";
import { Frames } from "./frames.js";

const PATIENCE_MILLISECONDS = 1000; // a tab in the background presents no frame

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
    this.measured = Promise.resolve();
    video.addEventListener("error", () => {
      if (!video.getAttribute("src")) return;
      this.failed = true;
      on.failed();
    });
    video.addEventListener("loadeddata", () => on.loaded());
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
    this.measured = this.#measureOffset();
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
    await Promise.all([this.frames.ensure(wanted), this.measured]);
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

  /** Learns from the first frame where its time lies on the browser's clock; seeks wait for it. */
  #measureOffset() {
    return /** @type {Promise<void>} */ (
      new Promise((done) => {
        const number = this.video.requestVideoFrameCallback((_, about) => {
          this.offset = about.mediaTime;
          done();
        });
        const giveUp = () => {
          this.video.cancelVideoFrameCallback(number);
          done();
        };
        this.video.addEventListener("error", giveUp, { once: true });
        this.video.addEventListener("loadeddata", () => setTimeout(giveUp, PATIENCE_MILLISECONDS), { once: true });
      })
    );
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
