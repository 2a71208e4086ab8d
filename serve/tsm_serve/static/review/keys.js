// What each key does. Fields and open dialogs keep their own keys.

import { dialogIsOpen } from "./dialog.js";

/**
 * @param {Record<string, () => void>} actions by key; "Shift+", "Ctrl+" in front where held
 * @param {(digit: number) => void} onDigit
 */
export function startKeys(actions, onDigit) {
  document.addEventListener("keydown", (event) => {
    if (dialogIsOpen() || event.altKey || isTyping(event)) return;
    const name = nameOf(event);
    const digit = /^[0-9]$/.test(event.key) && !event.ctrlKey && !event.metaKey;
    const act = actions[name];
    if (!digit && !act) return;
    if ((name === "Enter" || name === " ") && isButton(event)) return;
    event.preventDefault();
    if (digit) onDigit(Number(event.key));
    else act();
  });
}

/** @param {KeyboardEvent} event */
function nameOf(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const isLetter = /^[a-z]$/.test(key) || event.key.length > 1;
  return `${event.ctrlKey || event.metaKey ? "Ctrl+" : ""}${event.shiftKey && isLetter ? "Shift+" : ""}${key}`;
}

/** @param {KeyboardEvent} event */
function isTyping(event) {
  const target = /** @type {HTMLElement} */ (event.target);
  if (event.key === "Escape") {
    target.blur();
    return true;
  }
  return target.matches("input, textarea, select");
}

/** @param {KeyboardEvent} event */
function isButton(event) {
  return /** @type {HTMLElement} */ (event.target).matches("button, a, summary");
}
