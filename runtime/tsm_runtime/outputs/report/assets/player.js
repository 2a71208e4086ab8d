// The video, or where it cannot be played a position in time, so that the rest of the page still works.

class Player {
  constructor(onTime) {
    this.element = byId("video");
    this.onTime = onTime;
    this.position = 0;
    this.duration = 0;
    this.playable = false;
    this.url = null;
    const element = this.element;
    element.addEventListener("loadedmetadata", () => this.#ready());
    element.addEventListener("error", () => this.#refuse());
    for (const event of ["timeupdate", "seeked", "seeking"]) {
      element.addEventListener(event, () => { if (this.playable) this.onTime(); });
    }
    element.addEventListener("play", () => this.#follow());
    byId("screen-file").addEventListener("change", (event) => this.#openFile(event.target.files[0]));
  }

  /** Show a video: media is {src, name}, of a recording without pictures also {kind: "audio"}, or null. */
  open(media, duration) {
    this.media = media;
    this.duration = duration;
    this.position = 0;
    this.playable = false;
    this.#say(null);
    byId("screen").hidden = media === null;
    const isSound = media?.kind === "audio";
    byId("stage").classList.toggle("no-video", media === null || isSound);
    byId("screen").classList.toggle("audio", isSound);
    if (media === null) this.element.removeAttribute("src");
    else this.element.src = media.src;
    this.element.load();
  }

  get seconds() { return this.playable ? this.element.currentTime : this.position; }

  get playing() { return this.playable && !this.element.paused && !this.element.ended; }

  seek(seconds) {
    this.position = clamp(seconds, 0, this.duration);
    if (this.playable) this.element.currentTime = this.position;
    this.onTime();
  }

  toggle() {
    if (!this.playable) return;
    if (this.element.paused) this.element.play().catch(() => { /* paused again before it began */ });
    else this.element.pause();
  }

  #ready() {
    // A browser without the picture's codec may still play the sound.
    if (this.element.videoWidth === 0 && this.media.kind !== "audio") { this.#refuse(); return; }
    this.playable = true;
    this.#say(null);
    if (this.position > 0) this.element.currentTime = this.position;
    this.onTime();
  }

  #refuse() {
    if (!this.media || !this.element.getAttribute("src")) return;
    this.playable = false;
    this.#say(
      `This browser cannot play \u201c${this.media.name}\u201d: the file is not where the page expects it, or its ` +
      "format or codec is not supported. The timeline and the table below work without it.");
  }

  #say(text) {
    byId("screen-text").textContent = text ?? "";
    byId("screen-message").hidden = text === null;
    this.element.hidden = text !== null;
  }

  #openFile(file) {
    if (!file) return;
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = URL.createObjectURL(file);
    this.position = this.seconds;
    this.media = { src: this.url, name: file.name, kind: this.media?.kind };
    this.element.src = this.url;
    this.element.load();
  }

  /** `timeupdate` comes about four times a second; while playing, every picture moves the playhead. */
  #follow() {
    const step = () => {
      if (!this.playing) return;
      this.onTime();
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }
}
