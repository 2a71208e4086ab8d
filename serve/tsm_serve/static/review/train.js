// Training from the page: start, progress, log, stop, scores.

import { call } from "./api.js";
import { dialogIsOpen, openDialog, table } from "./dialog.js";
import { byId, make } from "./dom.js";
import { notice } from "./notices.js";

/**
 * @typedef {object} Training
 * @property {"idle" | "training" | "exporting" | "done" | "failed" | "stopped"} stage
 * @property {string} kind
 * @property {number} epoch
 * @property {number} epochs
 * @property {Record<string, number>} metrics
 * @property {string[]} log
 * @property {string} error
 * @property {string} note
 */

const WORDS = {
  idle: "No training yet.",
  training: "Training",
  exporting: "Exporting the model",
  done: "Done; the new model makes drafts now.",
  failed: "Failed",
  stopped: "Stopped",
};

export async function showTraining() {
  draw(await call("/api/training"));
}

/** Brings an open dialog up to date, and says at the top when a training ended. */
export async function trainingNews() {
  /** @type {Training} */
  const state = await call("/api/training");
  if (document.getElementById("training-log") && dialogIsOpen()) draw(state);
  if (state.stage === "done") notice("training", "The training is done; the new model makes drafts now.", true);
  else if (state.stage === "failed") notice("training", `The training failed: ${state.error}`, true);
  else notice("training", "");
}

/** @param {Training} state */
function draw(state) {
  const runs = state.stage === "training" || state.stage === "exporting";
  /** @type {HTMLElement[]} */
  const body = [
    make("p", {}, "Trains on the videos that are done and used for training; those for validation give the scores."),
    make("p", {}, "Quickly: the temporal head alone, on features of the network as it is. Fully: the network too."),
    make("p", { id: "training-stage" }, state.error ? `${WORDS[state.stage]}: ${state.error}` : WORDS[state.stage]),
  ];
  const bar = make("progress", { "aria-label": "epochs" });
  if (state.epochs) {
    bar.setAttribute("max", String(state.epochs));
    bar.setAttribute("value", String(state.epoch)); // without a value the bar moves to and fro
  }
  if (runs) body.push(bar);
  if (state.epoch) body.push(make("p", {}, `epoch ${state.epoch}`));
  const scores = Object.entries(state.metrics);
  if (scores.length) body.push(table(["score", "value"], scores.map(([name, value]) => [name, value.toFixed(3)])));
  if (state.note) body.push(make("p", { class: "muted" }, state.note));
  const log = make("pre", { id: "training-log", tabindex: 0, "aria-label": "log" }, state.log.join("\n"));
  body.push(log);
  const start = (/** @type {string} */ kind) => () => void begin(kind);
  openDialog("Train", body, {
    ...(runs
      ? { Stop: () => void call("/api/training", {}, { method: "DELETE" }).then(draw) }
      : { "Train quickly": start("quick"), "Train fully": start("full") }),
    Close: () => byId("train-button", HTMLButtonElement).focus(),
  });
  log.scrollTop = log.scrollHeight;
}

/** @param {string} kind */
async function begin(kind) {
  try {
    draw(await call("/api/training", {}, { method: "POST", body: { kind } }));
  } catch (error) {
    openDialog("Train", [make("p", { id: "training-stage" }, error instanceof Error ? error.message : String(error))]);
  }
}
