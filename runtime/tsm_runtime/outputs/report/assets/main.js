// The page: reads its data, shows the chosen video, and connects the parts.
//
// data: {title, labels, colors, videos, evaluation}, made by page_data.py. A segment comes as
// [label, start, end, score, lane]; here it becomes an object that also knows its kind and its elements.

const data = JSON.parse(byId("data").textContent);

const app = { video: null, segments: [], strip: null };

const player = new Player(() => {
  timeline.showTime(player.seconds, player.playing);
  showReadout();
  if (!player.playing) link.note(app.video.id, player.seconds);
});

const link = new MomentLink((id, seconds) => {
  const index = data.videos.findIndex((video) => video.id === id);
  if (index < 0) return false;
  if (index !== app.index) openVideo(index);
  player.seek(seconds);
  return true;
});

const timeline = new Timeline(data.labels, data.colors, {
  seek: (seconds) => player.seek(seconds),
  choose,
});

const preview = new Preview(player, timeline);

let overview = null;

const filters = new Filters(data.labels, data.colors, applyFilters);
const table = new SegmentTable(data.labels, data.colors, choose);

function openVideo(index) {
  const video = data.videos[index];
  preview.hide();
  app.index = index;
  app.video = video;
  app.strip = video.strip && new Strip(video.strip);
  const lanes = lanesOf(video);
  app.segments = lanes.flatMap((lane) => lane.segments);
  byId("video-title").textContent = video.id;
  byId("video-place").textContent = `${index + 1} of ${data.videos.length}`;
  overview?.mark(index);
  showFacts(video);
  showLegend(lanes, video);
  filters.open(countLabels(app.segments), app.strip !== null);
  openSources(lanes);
  player.open(video.media, video.duration);
  timeline.seconds = 0;
  timeline.open(video, lanes, app.strip, data.waveforms[index]);
  table.limit = FIRST_ROWS;
  mark(null);
  applyFilters();
  showReadout();
}

/** Open a video of the overview and bring it into sight. */
function showVideo(index) {
  openVideo(index);
  byId("video-section").scrollIntoView();
}

function lanesOf(video) {
  const lanes = video.members.map((member, i) => makeLane(member.name, i ? "member" : "found", member.segments));
  if (video.truth) lanes.push(makeLane("true", "true", video.truth.segments));
  return lanes;
}

function makeLane(name, kind, rows) {
  const lane = { name, kind };
  lane.segments = rows.map(([label, start, end, score, depth]) => ({ label, start, end, score, lane: depth, kind, source: lane }));
  return lane;
}

/** Number of segments per class; a class with true segments only counts 0. */
function countLabels(segments) {
  const counts = new Map();
  for (const { label, kind } of segments) counts.set(label, (counts.get(label) ?? 0) + (kind === "found" ? 1 : 0));
  return counts;
}

function showLegend(lanes, video) {
  const samples = lanes.map((lane) => [lane.kind, lane.name]);
  const unique = samples.filter(([kind], i) => kind !== "member" || samples.findIndex(([other]) => other === kind) === i);
  const items = unique.map(([kind, name]) => [kind, kind === "member" ? "members" : name]);
  if (app.strip) items.push(["heat-sample", "score"]);
  if (video.gaps.length) items.push(["gap-sample", "gap"]);
  byId("legend").replaceChildren(...items.map(([kind, name]) =>
    make("li", {}, make("span", { class: `sample ${kind}`, "aria-hidden": "true" }), name)));
}

function openSources(lanes) {
  byId("source").replaceChildren(...lanes.map((lane, i) => make("option", { value: i }, lane.name)));
  byId("source-field").hidden = lanes.length < 2;
  app.lanes = lanes;
}

// --- filters, choice, readout ---

function applyFilters() {
  timeline.filter((segment) => filters.shows(segment), (label) => filters.showsLabel(label), filters.showQuiet);
  const listed = app.lanes[Number(byId("source").value)].segments;
  const shownSegments = listed.filter((segment) => filters.shows(segment));
  table.show(shownSegments);
  byId("count").textContent = `${shownSegments.length} of ${listed.length} shown`;
}

/** The rows of the table, filtered as they are, as CSV like that of `tsm-run`. */
function downloadShown() {
  const rows = table.sorted().map((s) =>
    [app.video.id, data.labels[s.label], s.start, s.end, ...(s.kind === "true" ? [""] : [s.score])]);
  download("segments.csv", csvOf([["video", "label", "start", "end", "score"], ...rows]), "text/csv");
}

function choose(segment) {
  mark(segment);
  player.seek(segment.start);
}

function mark(segment) {
  timeline.mark(segment);
  table.mark(segment);
}

function showReadout() {
  const seconds = player.seconds;
  const here = app.segments.filter((s) => s.start <= seconds && seconds < s.end && filters.shows(s));
  const parts = here.map((s) => [data.labels[s.label], s.kind === "true" ? " (true)" : ` ${s.score.toFixed(2)}${s.kind === "member" ? ` (${s.source.name})` : ""}`]);
  const best = app.strip?.at(seconds, 3);
  const text = [make("b", {}, clock(seconds)), "  ", parts.length ? "Segments: " : "No segment here"];
  parts.forEach(([name, more], i) => text.push(i ? ", " : "", make("b", {}, name), more));
  if (best) text.push(" \u00b7 Scores: ", best.map(([label, score]) => `${data.labels[label]} ${score.toFixed(2)}`).join(", "));
  byId("readout").replaceChildren(...text);
}

// --- keys ---

function step(direction) {
  const interval = app.video.facts?.interval ?? 1;
  player.seek(player.seconds + direction * interval);
}

const KEYS = {
  " ": () => player.toggle(),
  "?": () => byId("help").showModal(),
  "+": () => timeline.zoomBy(2),
  "-": () => timeline.zoomBy(0.5),
  "0": () => timeline.zoomBy(0),
  "n": () => changeVideo(1),
  "p": () => changeVideo(-1),
  "ArrowLeft": () => step(-1),
  "ArrowRight": () => step(1),
};

/** Controls keep the keys that they use themselves; a segment or the ruler leaves Space to the video. */
function keepsKey(target, key) {
  if (target.closest("dialog")) return true;
  if (target.matches("select, textarea, input:not([type=checkbox]), video")) return true;
  if (target.matches("input")) return key === " ";
  return key === " " && target.matches("button:not(.segment), summary, a");
}

function onKeyDown(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const action = KEYS[event.key];
  if (!action || keepsKey(event.target, event.key)) return;
  if (!app.video && event.key !== "?") return;
  event.preventDefault();
  action();
}

// Firefox presses a button when Space is let go.
function onKeyUp(event) {
  if (event.key === " " && event.target.matches?.(".segment")) event.preventDefault();
}

function changeVideo(direction) {
  const index = app.index + direction;
  if (data.videos[index]) openVideo(index);
}

// --- start ---

function start() {
  document.addEventListener("keydown", onKeyDown);
  document.addEventListener("keyup", onKeyUp);
  byId("help-open").addEventListener("click", () => byId("help").showModal());
  byId("source").addEventListener("change", applyFilters);
  byId("download").addEventListener("click", downloadShown);
  byId("video-previous").addEventListener("click", () => changeVideo(-1));
  byId("video-next").addEventListener("click", () => changeVideo(1));
  showAbout(data);
  if (data.evaluation) showEvaluation(data.evaluation);
  if (data.videos.length) {
    byId("video-section").hidden = false;
    byId("chooser").hidden = data.videos.length < 2;
    if (data.videos.length > 1) overview = new Overview(data, showVideo);
    if (!link.follow()) openVideo(0);
  }
  startTheme(() => timeline.redraw());
  document.documentElement.dataset.ready = "yes";
}

start();
