// A small picture of the moment under the mouse: a second, silent player of the same file.

const PREVIEW_GAP_PIXELS = 12;

class Preview {
  /** player: whose video is shown; timeline: over which the mouse moves. */
  constructor(player, timeline) {
    this.player = player;
    this.timeline = timeline;
    this.video = make("video", { preload: "auto", playsinline: true, tabindex: "-1", "aria-hidden": "true" });
    this.video.muted = true;
    this.time = make("span");
    this.box = make("div", { class: "preview", "aria-hidden": "true", hidden: true }, this.video, this.time);
    document.body.append(this.box);
    this.video.addEventListener("seeked", () => this.#seek());
    this.video.addEventListener("loadeddata", () => this.#seek());
    const area = timeline.box;
    area.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerleave", "pointerdown", "scroll"]) area.addEventListener(end, () => this.hide());
  }

  hide() { this.box.hidden = true; }

  #move(event) {
    const over = event.target.closest(".lanes, .ruler-track");
    const pictures = this.player.playable && this.player.media.kind !== "audio";
    if (event.pointerType !== "mouse" || event.buttons || !over || !pictures) { this.hide(); return; }
    const source = this.player.element.getAttribute("src");
    if (this.video.getAttribute("src") !== source) this.video.setAttribute("src", source);
    this.wanted = this.timeline.secondsAt(event.clientX);
    this.time.textContent = clock(this.wanted);
    this.box.hidden = false;
    const { width, height } = this.box.getBoundingClientRect();
    const top = over.getBoundingClientRect().top - height - PREVIEW_GAP_PIXELS;
    const below = event.clientY + 2 * PREVIEW_GAP_PIXELS;
    this.box.style.left = `${clamp(event.clientX - width / 2, 4, document.documentElement.clientWidth - width - 4)}px`;
    this.box.style.top = `${top >= 4 ? top : below}px`;
    this.#seek();
  }

  /** One seek at a time, to the latest moment: a mouse moves faster than pictures come. */
  #seek() {
    const there = Math.abs(this.video.currentTime - this.wanted) < 1e-3;
    if (this.box.hidden || this.video.seeking || this.video.readyState < 1 || there) return;
    this.video.currentTime = this.wanted;
  }
}
