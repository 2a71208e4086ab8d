// What to label next: videos by what the model does not know, within a budget of minutes.

import { call } from "./api.js";
import { openDialog, table } from "./dialog.js";
import { byId, clock, make } from "./dom.js";

/** @typedef {import("./app.js").App} App */
/** @typedef {{video_id: string, end_seconds: number, value: number, reason: string, moments: [number, number][]}} Suggestion */

/** @param {App} app @param {number} minutes */
export async function showSuggestions(app, minutes = 10) {
  /** @type {Suggestion[]} */
  const found = (await call("/api/suggestions", { minutes })).suggestions;
  const field = make("input", { id: "budget", type: "number", min: 1, step: 1, value: minutes });
  field.addEventListener("change", () => void showSuggestions(app, Math.max(1, Number(field.value) || 1)));
  /** @type {HTMLElement[]} */
  const body = [make("label", {}, "Minutes to label", field)];
  if (found.length) body.push(table(["video", "why", "look at"], found.map((one) => row(app, one))));
  else body.push(make("p", {}, "Nothing to suggest: drafts of a model are needed for videos that are not done yet."));
  openDialog("What to label next", body);
}

/** @param {App} app @param {Suggestion} one @returns {(string | Node)[]} */
function row(app, one) {
  const go = (/** @type {string} */ text, /** @type {number} */ seconds) => {
    const button = make("button", { type: "button", class: "tool" }, text);
    button.addEventListener("click", () => {
      byId("dialog", HTMLDialogElement).close();
      void app.open(one.video_id, seconds);
    });
    return button;
  };
  const moments = make("span", { class: "group" }, ...one.moments.map(([start]) => go(clock(start, 1), start)));
  return [go(one.video_id, 0), `${one.reason} (${one.value.toFixed(2)})`, moments];
}
