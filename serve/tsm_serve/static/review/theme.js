// Light and dark: what the system prefers, until the reader chooses.

import { byId } from "./dom.js";

const KEY = "tsm-review theme";

export function startTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const current = () => document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light");
  const show = () => {
    byId("theme-name", HTMLSpanElement).textContent = current() === "dark" ? "Light" : "Dark";
  };
  const stored = localStorage.getItem(KEY);
  if (stored) document.documentElement.dataset.theme = stored;
  byId("theme", HTMLButtonElement).addEventListener("click", () => {
    document.documentElement.dataset.theme = current() === "dark" ? "light" : "dark";
    localStorage.setItem(KEY, document.documentElement.dataset.theme);
    show();
  });
  system.addEventListener("change", show);
  show();
}
