// Dragging a segment or one of its bounds; bounds snap to the times of frames.

import { moved } from "./edits.js";

/** @typedef {import("./types.js").Annotation} Annotation */

const CLICK_PIXELS = 4;

/**
 * @param {PointerEvent} event that began it
 * @param {Annotation} one
 * @param {"start" | "end" | "both"} which
 * @param {{secondsAt: (event: PointerEvent) => number, snap: (seconds: number) => number,
 *   near: (seconds: number) => void, shown: (by: Annotation) => void, clicked: () => void,
 *   dropped: (by: Annotation) => void}} on
 */
export function drag(event, one, which, on) {
  const begin = on.secondsAt(event);
  const beginX = event.clientX;
  const anchor = which === "end" ? one.segment[1] : one.segment[0];
  /** @type {Annotation | null} */
  let result = null;
  on.near(anchor);

  const move = (/** @type {PointerEvent} */ later) => {
    if (!result && Math.abs(later.clientX - beginX) < CLICK_PIXELS) return;
    const to = anchor + on.secondsAt(later) - begin;
    on.near(to);
    result = moved(one, which, on.snap(to));
    on.shown(result);
  };
  const end = (/** @type {PointerEvent} */ later) => {
    document.removeEventListener("pointermove", move);
    document.removeEventListener("pointerup", end);
    document.removeEventListener("pointercancel", end);
    if (later.type === "pointercancel" || !result) on.clicked();
    else on.dropped(moved(one, which, on.snap(anchor + on.secondsAt(later) - begin)));
  };
  document.addEventListener("pointermove", move);
  document.addEventListener("pointerup", end);
  document.addEventListener("pointercancel", end);
}
