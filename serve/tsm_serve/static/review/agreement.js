// How far two annotators of a video agree.

import { call } from "./api.js";
import { openDialog, table } from "./dialog.js";
import { make } from "./dom.js";

/** @param {import("./work.js").Work | null} work */
export async function showAgreement(work) {
  const layers = Object.keys(work?.shown.others ?? {});
  if (!work || !layers.length) {
    const how = "Choose “second, by me” under Annotation and annotate the video independently first.";
    return openDialog("Agreement", [make("p", {}, how)]);
  }
  const layer = work.layer && layers.includes(work.layer) ? work.layer : layers[0];
  const found = await call("/api/agreement", { id: work.id, layer });
  const rows = Object.entries(found.tiou).map(([label, value]) => [label, value.toFixed(3)]);
  const kappa = found.kappa === null ? "not defined (one class only)" : found.kappa.toFixed(3);
  openDialog(`Agreement with ${layer}`, [
    make("p", { id: "kappa" }, `Cohen's kappa over ${found.frames} frames: ${kappa}`),
    table(["class", "temporal IoU"], rows),
  ]);
}
