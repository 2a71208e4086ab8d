// Starts the page: project, list, keys, buttons, events of the server.

import { call, listen } from "./api.js";
import { App } from "./app.js";
import { showKeys } from "./dialog.js";
import { byId } from "./dom.js";
import { startKeys } from "./keys.js";
import { notice } from "./notices.js";
import { showSuggestions } from "./suggest.js";
import { startTheme } from "./theme.js";
import { showTraining, trainingNews } from "./train.js";

startTheme();
try {
  await start();
} catch (error) {
  notice("start", `${error instanceof Error ? error.message : error}`);
}

async function start() {
  const app = new App(await call("/api/project"));
  connectButtons(app);
  connectKeys(app);
  await app.refreshList();
  follow(app);
  const { recovered, strangers } = app.project;
  if (recovered) notice("recovered", `${recovered}: the last save was completed from the journal`, true);
  if (strangers.length) {
    const text = `${strangers.length} videos of the truth file are not in this folder, for example ${strangers[0]}; they stay as they are`;
    notice("strangers", text, true);
  }
  const asked = new URLSearchParams(location.hash.slice(1)).get("video");
  const known = app.list.lines.some((line) => line.id === asked);
  const first = known ? asked : (app.saver.keptIds()[0] ?? app.list.nextUndone() ?? app.list.lines[0]?.id);
  if (first) await app.open(first);
}

/** @param {App} app */
function connectButtons(app) {
  const { actions, player, timeline } = app;
  /** @type {Record<string, () => void>} */
  const buttons = {
    back: () => void player.step(-1),
    play: () => player.toggle(),
    forward: () => void player.step(1),
    "mark-in": () => actions.markIn(),
    "mark-out": () => actions.markOut(),
    split: () => actions.split(),
    merge: () => actions.merge(),
    delete: () => actions.remove(),
    undo: () => actions.undo(),
    redo: () => actions.redo(),
    "accept-all": () => actions.acceptAll(),
    "next-video": () => app.finish(),
    "zoom-in": () => timeline.zoomBy(2, player.now),
    "zoom-out": () => timeline.zoomBy(0.5, player.now),
    "zoom-fit": () => timeline.zoomBy(0, player.now),
    "agreement-button": () => void app.compare(),
    "proxy-button": () => void app.makeProxy(),
    "help-button": showKeys,
    "train-button": () => void showTraining(),
    "suggest-button": () => void showSuggestions(app),
    "list-button": () => toggleList(),
  };
  for (const [id, act] of Object.entries(buttons)) byId(id, HTMLButtonElement).addEventListener("click", act);
  const field = byId("new-label", HTMLInputElement);
  byId("add-label", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    void app.addLabel(field.value);
    field.value = "";
  });
}

function toggleList() {
  const open = document.body.classList.toggle("show-list");
  byId("list-button", HTMLButtonElement).setAttribute("aria-expanded", String(open));
  if (open) byId("videos", HTMLDivElement).focus();
}

/** @param {App} app */
function connectKeys(app) {
  const { actions, player, timeline } = app;
  const step = (/** @type {number} */ count) => () => void player.step(count);
  const jump = (/** @type {number} */ seconds) => () => void player.seek(player.now + seconds);
  startKeys(
    {
      " ": () => player.toggle(),
      k: () => player.toggle(),
      j: jump(-1),
      l: () => player.faster(),
      ",": step(-1),
      ".": step(1),
      ArrowLeft: step(-1),
      ArrowRight: step(1),
      "Shift+ArrowLeft": jump(-1),
      "Shift+ArrowRight": jump(1),
      i: () => actions.markIn(),
      o: () => actions.markOut(),
      s: () => actions.split(),
      m: () => actions.merge(),
      Delete: () => actions.remove(),
      Backspace: () => actions.remove(),
      "[": () => actions.selectNext(-1),
      "]": () => actions.selectNext(1),
      a: () => actions.acceptHere(),
      "Shift+a": () => actions.acceptAll(),
      "Ctrl+z": () => actions.undo(),
      "Ctrl+y": () => actions.redo(),
      "Ctrl+Shift+z": () => actions.redo(),
      "+": () => timeline.zoomBy(2, player.now),
      "=": () => timeline.zoomBy(2, player.now),
      "-": () => timeline.zoomBy(0.5, player.now),
      f: () => timeline.zoomBy(0, player.now),
      ArrowUp: () => app.openNeighbour(-1),
      ArrowDown: () => app.openNeighbour(1),
      Enter: () => app.finish(),
      c: () => byId("comment", HTMLTextAreaElement).focus(),
      g: () => byId("new-label", HTMLInputElement).focus(),
      "?": showKeys,
    },
    (digit) => {
      const label = app.project.labels[digit - 1];
      if (digit === 0) actions.deselect();
      else if (label) actions.relabel(label);
    },
  );
}

/** @param {App} app */
function follow(app) {
  let waiting = 0;
  const refreshListSoon = () => {
    if (!waiting) {
      waiting = window.setTimeout(() => {
        waiting = 0;
        void app.refreshList().catch(() => undefined);
      }, 1500);
    }
  };
  listen(
    (event) => {
      if (event.kind === "entry") void app.refresh(event.id);
      else if (event.kind === "draft") {
        if (event.id === app.work?.id) void app.refresh(event.id);
        refreshListSoon();
      } else if (event.kind === "project") void app.refreshProject();
      else if (event.kind === "lengths") refreshListSoon();
      else if (event.kind === "proxy") app.proxyNews(event);
      else if (event.kind === "training") void trainingNews();
      else if (event.kind === "fault") notice("fault", event.message);
    },
    (connected) => {
      notice("connection", connected ? "" : "The server does not answer; edits stay in this browser until it does.");
      if (connected) refreshListSoon(); // events while there was no connection did not arrive
    },
  );
}
