// Light and dark: what the system prefers, until the reader chooses.

const THEME_KEY = "tsm-report-theme";

function startTheme(onChange) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const current = () => document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light");
  const show = () => {
    byId("theme-name").textContent = current() === "dark" ? "Light" : "Dark";
    onChange();
  };
  const stored = readStored(THEME_KEY);
  if (stored === "dark" || stored === "light") document.documentElement.dataset.theme = stored;
  byId("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = current() === "dark" ? "light" : "dark";
    writeStored(THEME_KEY, document.documentElement.dataset.theme);
    show();
  });
  system.addEventListener("change", show);
  show();
}

// A browser may forbid storage to a page that was opened from a file.
function readStored(key) {
  try { return localStorage.getItem(key); } catch { return null; }
}

function writeStored(key, value) {
  try { localStorage.setItem(key, value); } catch { /* the choice lasts as long as the page */ }
}
