// The evaluation: figures, mAP per threshold, AP and curves per class, confusion, diagnosis.

const CLASSES_IN_CONFUSION = 40;
const FIRST_CURVES = 24;
const FIRST_AP = 40;

const percent = (value) => (100 * value).toFixed(1);

function showEvaluation(evaluation) {
  byId("evaluation").hidden = false;
  byId("evaluation-body").append(
    ...evaluation.notes.map((text) => make("p", { class: "notice" },
      make("span", { "aria-hidden": "true" }, "\u26a0"), make("span", {}, text))),
    cards(evaluation),
    make("div", { class: "grid" }, mapPanel(evaluation), apPanel(evaluation), ...curvePanel(evaluation),
      ...confusionPanel(evaluation), ...diagnosisPanel(evaluation)));
}

function panel(title, tools, ...content) {
  return make("section", { class: "panel" },
    make("div", { class: "panel-head" }, make("h3", {}, title), ...tools), ...content);
}

function cards(evaluation) {
  const drawn = evaluation.bootstrap;
  const range = drawn ? `, ${interval(drawn.average)}` : "";
  const all = [
    [percent(evaluation.average), `average mAP in %${range}`],
    ...evaluation.tiou.slice(0, 4).map((tiou, k) => [percent(evaluation.map[k]), `mAP in % at tIoU ${tiou}`]),
    [String(evaluation.truth), "true instances"], [String(evaluation.predictions), "predictions"],
    [String(evaluation.videos), "videos"],
  ];
  if (evaluation.scene !== null) all.push([percent(evaluation.scene), "scene top-1 in %"]);
  return make("div", { class: "cards" }, ...all.map(([number, text], i) =>
    make("div", { class: i ? "card" : "card first" }, make("b", {}, number), make("span", {}, text))));
}

const interval = ([low, high]) => `${percent(low)} to ${percent(high)}`;

function mapPanel(evaluation) {
  const drawn = evaluation.bootstrap;
  const rows = [...evaluation.tiou.map((tiou, k) => [String(tiou), evaluation.map[k], drawn?.tiou[k]]),
    ["average", evaluation.average, drawn?.average]];
  const head = ["tIoU", "mAP in %", ...(drawn ? [`${100 * drawn.confidence} % interval`] : [])];
  const table = make("table", { class: "plain" },
    make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { scope: "col" }, text)))),
    make("tbody", {}, ...rows.map(([name, value, range]) => make("tr", {}, make("th", { scope: "row" }, name),
      make("td", {}, percent(value)), ...(drawn ? [make("td", {}, interval(range))] : [])))));
  const how = drawn ? `; intervals by ${drawn.replicates} draws of the videos` : "";
  return panel("mAP per threshold", [], make("div", { class: "scroll" }, table),
    make("p", { class: "muted" }, `Rules: ${evaluation.mode}; mean over ${evaluation.labels.length} classes${how}.`));
}

function apPanel(evaluation) {
  const list = make("div", { class: "ap-list" });
  const choice = { threshold: "average", order: "ap", limit: FIRST_AP };
  const more = make("button", { type: "button", class: "tool" });
  more.addEventListener("click", () => { choice.limit = Infinity; draw(); });
  const draw = () => {
    const rows = evaluation.labels.map((label, i) => [label, apOf(evaluation.ap[i], choice.threshold)]);
    if (choice.order === "ap") rows.sort((a, b) => b[1] - a[1]);
    more.hidden = rows.length <= choice.limit;
    more.textContent = `Show all ${rows.length} classes`;
    list.replaceChildren(...rows.slice(0, choice.limit).map(([label, ap]) => barRow("div", label, ap, percent(ap), { class: "bar-row" })));
  };
  const thresholds = [["average", "average"], ...evaluation.tiou.map((tiou, k) => [String(k), `tIoU ${tiou}`])];
  const tools = [
    makeSelect(thresholds, (value) => { choice.threshold = value; draw(); }, { "aria-label": "Threshold" }),
    makeSelect([["ap", "by AP"], ["name", "by name"]], (value) => { choice.order = value; draw(); },
      { "aria-label": "Order" }),
  ];
  draw();
  return panel("AP per class in %", tools, list, more);
}

function apOf(values, threshold) {
  if (threshold !== "average") return values[Number(threshold)];
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

// --- curves ---

function curvePanel(evaluation) {
  if (!evaluation.curves.length) return [];
  const figures = make("div", { class: "figures" });
  const legend = make("ul", { class: "legend" });
  const few = evaluation.tiou.length <= 4;
  const state = { shown: few ? evaluation.tiou : [evaluation.tiou[0]], limit: FIRST_CURVES };
  const more = make("button", { type: "button", class: "tool" });
  const draw = () => {
    const labels = evaluation.labels.slice(0, state.limit);
    figures.replaceChildren(...labels.map((label) => curveFigure(evaluation, label, state.shown)));
    legend.replaceChildren(...state.shown.map((tiou, i) => make("li", {}, lineSample(i % 4), `tIoU ${tiou}`)));
    more.hidden = evaluation.labels.length <= state.limit;
    more.textContent = `Show all ${evaluation.labels.length} classes`;
  };
  more.addEventListener("click", () => { state.limit = Infinity; draw(); });
  const options = [...(few ? [["all", "all thresholds"]] : []), ...evaluation.tiou.map((t) => [String(t), `tIoU ${t}`])];
  const select = makeSelect(options, (value) => {
    state.shown = value === "all" ? evaluation.tiou : [Number(value)];
    draw();
  }, { "aria-label": "Threshold of the curves" });
  draw();
  const whole = panel("Precision over recall", [legend, select], figures, more);
  whole.classList.add("wide");
  return [whole];
}

function curveFigure(evaluation, label, thresholds) {
  const mine = evaluation.curves.filter((curve) => curve.label === label && thresholds.includes(curve.tiou));
  const ap = evaluation.ap[evaluation.labels.indexOf(label)];
  const values = thresholds.map((tiou) => percent(ap[evaluation.tiou.indexOf(tiou)]));
  const curves = mine.map((curve) => ({ points: curve.points, dash: thresholds.indexOf(curve.tiou) % 4 }));
  return make("figure", {}, make("figcaption", {}, make("b", {}, label), `AP ${values.join(" / ")}`),
    curveChart(`Precision over recall of ${label}: AP ${values.join(", ")} %`, curves));
}

// --- confusion and diagnosis ---

function confusionPanel(evaluation) {
  const confusion = evaluation.confusion;
  if (confusion === null) return [];
  const kept = mostFrequent(confusion, CLASSES_IN_CONFUSION);
  const left = confusion.labels.length - kept.length;
  const words = [`Who was taken for whom at tIoU ${confusion.tiou}: right ones first, then each remaining prediction ` +
    "takes the best free instance of another class. Shading: share of the row."];
  if (left) words.push(`The ${kept.length} most frequent classes; ${left} others are left out.`);
  const whole = panel("Confusion", [],
    make("div", { class: "scroll tall-scroll", tabindex: "0" }, confusionTable(confusion, kept)), make("p", { class: "muted" }, words.join(" ")));
  whole.classList.add("wide");
  return [whole];
}

function mostFrequent(confusion, most) {
  const totals = confusion.counts.map((row) => row.reduce((sum, count) => sum + count, 0));
  const places = confusion.labels.map((_, i) => i).sort((a, b) => totals[b] - totals[a]);
  return places.slice(0, most).sort((a, b) => a - b);
}

function diagnosisPanel(evaluation) {
  if (!evaluation.diagnosis.length) return [];
  const whole = panel("Diagnosis", [],
    make("div", { class: "figures tall diagnosis" }, ...evaluation.diagnosis.map(stackedChart)));
  whole.classList.add("wide");
  return [whole];
}
