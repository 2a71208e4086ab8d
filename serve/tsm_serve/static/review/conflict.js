// Two versions of a video's annotation, of which one is chosen.

import { openDialog, table } from "./dialog.js";
import { clock, make } from "./dom.js";

/**
 * @param {string} id
 * @param {import("./saver.js").Pending} mine
 * @param {import("./types.js").Shown} theirs
 * @param {{keep: () => void, take: () => void}} on
 */
export function openConflict(id, mine, theirs, on) {
  const layer = mine.edit.layer;
  const stored = layer ? (theirs.others[layer] ?? []) : theirs.annotations;
  const text = (/** @type {import("./types.js").Annotation[]} */ list) =>
    make("pre", {}, list.map((one) => `${clock(one.segment[0])} – ${clock(one.segment[1])}  ${one.label}`).join("\n"));
  openDialog(
    `${id} was changed by another tab or program`,
    [
      make("p", {}, "Nothing was overwritten. Which one is right?"),
      table(["mine", `stored${theirs.by ? `, by ${theirs.by} at ${theirs.at}` : ""}`], [
        [text(mine.edit.annotations), text(stored)],
      ]),
    ],
    { "Keep mine": on.keep, "Take the stored one": on.take },
  );
}
