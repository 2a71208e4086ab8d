// What is known about the video, and its scene.

const SCENES_SHOWN = 5;

function showFacts(video) {
  const parts = [];
  if (video.facts) parts.push(make("div", {}, make("h3", {}, video.media?.kind === "audio" ? "Recording" : "Video"), factList(video)));
  if (video.scenes.length || video.truth?.scene) parts.push(sceneList(video));
  byId("facts").replaceChildren(...parts);
  byId("facts").hidden = parts.length === 0;
  byId("notices").replaceChildren(...notices(video).map((text) => make("p", { class: "notice" },
    make("span", { "aria-hidden": "true" }, "\u26a0"), make("span", {}, text))));
}

function factList(video) {
  const { duration, interval, intervals, stride, complete, corrupt } = video.facts;
  const short = (seconds) => `${Number(seconds.toFixed(3))} s`;
  const gaps = video.gaps.map(([start, end]) => `${clock(start)}\u2013${clock(end)}`);
  const facts = [
    ["Duration", clock(duration)],
    ["Intervals", `${intervals} of ${short(interval)}${stride ? `, one every ${short(stride)}` : ""}`],
    ["Complete", complete ? "yes" : "no, it breaks off"],
    ["Gaps", gaps.length ? listed(gaps, 4) : "none"],
    ["Corrupt frames", corrupt ? String(corrupt) : "none"],
  ];
  if (stride) facts.push(["Scores", `of cells of ${short(stride)}: mean over the intervals that cover each`]);
  if (video.media) facts.unshift(["File", video.media.name]);
  return make("dl", {}, ...facts.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]));
}

function notices(video) {
  const broken = video.facts && !video.facts.complete && !video.warnings.length;
  return broken ? ["The video breaks off: only its first part was looked at."] : video.warnings;
}

function listed(texts, most) {
  return texts.slice(0, most).join(", ") + (texts.length > most ? ` and ${texts.length - most} more` : "");
}

function sceneList(video) {
  const truth = video.truth?.scene ?? null;
  const rows = video.scenes.slice(0, SCENES_SHOWN).map(([label, score]) =>
    barRow("li", label === truth ? `${label} \u2713 true` : label, score, score.toFixed(2)));
  const parts = [make("h3", {}, "Scene"), make("ul", { class: "bars" }, ...rows)];
  const named = video.scenes.slice(0, SCENES_SHOWN).some(([label]) => label === truth);
  if (truth !== null && !named) parts.push(make("p", { class: "muted" }, `true: ${truth}`));
  return make("div", {}, ...parts);
}
