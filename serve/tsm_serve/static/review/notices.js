// Lines at the top of the page that stay until their reason is gone.

import { byId, make } from "./dom.js";

/** @type {Map<string, HTMLElement>} */
const notices = new Map();

/** @param {string} key @param {string} text empty: take it away @param {boolean} closable */
export function notice(key, text, closable = false) {
  notices.get(key)?.remove();
  notices.delete(key);
  if (!text) return;
  const line = make("p", {}, text);
  if (closable) {
    const close = make("button", { type: "button", class: "tool" }, "OK");
    close.addEventListener("click", () => notice(key, ""));
    line.append(close);
  }
  notices.set(key, line);
  byId("notices", HTMLDivElement).append(line);
}
