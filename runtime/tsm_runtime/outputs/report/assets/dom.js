// Small helpers. Text goes into the page as text only: nothing here or elsewhere parses HTML.

const byId = (id) => document.getElementById(id);

/** An element with attributes (null and false are left out) and children (text is text). */
function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function makeSvg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === false) continue;
    element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children);
  return element;
}

/** Seconds as 1:02.50 or 1:00:02.50. */
function clock(seconds, decimals = 2) {
  const whole = Number(seconds.toFixed(decimals));
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  const rest = (whole % 60).toFixed(decimals).padStart(decimals ? decimals + 3 : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** Run `work` once before the next picture, however often this is called. */
function oncePerFrame(work) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; work(); });
  };
}

/** A drop-down of [value, text] pairs. */
function makeSelect(options, onChange, attributes = {}) {
  const select = make("select", attributes, ...options.map(([value, text]) => make("option", { value }, text)));
  select.addEventListener("change", () => onChange(select.value));
  return select;
}

/** A row of a bar chart: name, bar of `share` (0 to 1), text. */
function barRow(tag, name, share, text, attributes = {}) {
  const bar = make("span", { class: "bar-fill" });
  bar.style.width = `${100 * clamp(share, 0, 1)}%`;
  const track = make("span", { class: "bar-track", "aria-hidden": "true" }, bar);
  return make(tag, attributes, make("span", {}, name), track, make("span", {}, text));
}
