// One dialog at a time: title, body, buttons.

import { byId, make } from "./dom.js";

/**
 * @param {string} title
 * @param {(Node | string)[]} body
 * @param {Record<string, () => void>} buttons by name; each closes the dialog
 */
export function openDialog(title, body, buttons = { Close: () => undefined }) {
  const dialog = byId("dialog", HTMLDialogElement);
  byId("dialog-title", HTMLHeadingElement).textContent = title;
  byId("dialog-body", HTMLDivElement).replaceChildren(...body);
  const made = Object.entries(buttons).map(([name, act]) => {
    const button = make("button", { type: "button", class: "tool" }, name);
    button.addEventListener("click", () => {
      dialog.close();
      act();
    });
    return button;
  });
  byId("dialog-buttons", HTMLDivElement).replaceChildren(...made);
  if (!dialog.open) dialog.showModal();
}

export function dialogIsOpen() {
  return byId("dialog", HTMLDialogElement).open;
}

/** @param {string[]} head @param {(string | Node)[][]} rows */
export function table(head, rows) {
  const cells = (/** @type {"td" | "th"} */ tag, /** @type {(string | Node)[]} */ row) =>
    make("tr", {}, ...row.map((cell) => make(tag, {}, cell)));
  return make("table", {}, make("thead", {}, cells("th", head)), make("tbody", {}, ...rows.map((row) => cells("td", row))));
}

const KEYS = [
  ["Space or K", "play, pause"],
  ["J, L", "back one second; forward, again: faster"],
  [", and . or ← and →", "previous and next frame; with Shift one second"],
  ["I, O", "start and end of the selected segment; without one: mark, and make a segment of the active class"],
  ["1 … 9, 0", "class of the selected segment; without one: the active class; 0: no selection"],
  ["[ and ]", "previous and next segment"],
  ["S, M, Delete", "split at the playhead, merge with the next of its class, delete"],
  ["A, Shift+A", "take over the draft at the playhead, all drafts"],
  ["Ctrl+Z, Ctrl+Y", "undo, redo"],
  ["+, −, F", "zoom in, out, whole video"],
  ["↑, ↓", "previous and next video"],
  ["Enter", "mark as done and go to the next video that is not"],
  ["C, G", "comment; name of a new class"],
  ["?", "this list"],
];

export function showKeys() {
  openDialog("Keys", [table(["key", "does"], KEYS.map(([key, does]) => [make("kbd", {}, key), does]))]);
}
