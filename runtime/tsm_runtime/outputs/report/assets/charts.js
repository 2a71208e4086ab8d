// Charts of an evaluation that need more than a row of bars.

const CHART = { width: 170, height: 150, left: 36, right: 6, top: 6, bottom: 24 };

/** Precision over recall as steps; curves: [{points: [[recall, precision]], dash}], all axes from 0 to 1. */
function curveChart(title, curves) {
  const { width, height, left, right, top, bottom } = CHART;
  const x = (recall) => left + recall * (width - left - right);
  const y = (precision) => height - bottom - precision * (height - top - bottom);
  const svg = makeSvg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title });
  for (const mark of [0, 0.5, 1]) {
    svg.append(
      makeSvg("line", { class: "grid-line", x1: x(0), x2: x(1), y1: y(mark), y2: y(mark) }),
      makeSvg("line", { class: "grid-line", x1: x(mark), x2: x(mark), y1: y(0), y2: y(1) }),
      makeSvg("text", { class: "axis-text", x: left - 4, y: y(mark) + 3, "text-anchor": "end" }, String(mark)),
      makeSvg("text", { class: "axis-text", x: x(mark), y: height - 13, "text-anchor": "middle" }, String(mark)));
  }
  svg.append(
    makeSvg("path", { class: "axis", d: `M${x(0)} ${y(1)}V${y(0)}H${x(1)}` }),
    makeSvg("text", { class: "axis-text", x: x(0.5), y: height - 2, "text-anchor": "middle" }, "recall"),
    makeSvg("text", {
      class: "axis-text", "text-anchor": "middle", transform: `translate(8 ${y(0.5)}) rotate(-90)`,
    }, "precision"));
  for (const { points, dash } of curves) {
    svg.append(makeSvg("path", { class: `curve dash-${dash}`, d: stepPath(points, x, y) }));
  }
  return svg;
}

/** Level at each precision up to its recall, then down; beyond the last recall nothing was found. */
function stepPath(points, x, y) {
  if (!points.length) return `M${x(0)} ${y(0)}H${x(1)}`;
  let path = `M${x(0)} ${y(points[0][1])}`;
  for (const [recall, precision] of points) path += `V${y(precision).toFixed(2)}H${x(recall).toFixed(2)}`;
  return path + `V${y(0).toFixed(2)}`;
}

function lineSample(dash) {
  return makeSvg("svg", { viewBox: "0 0 30 8", "aria-hidden": "true" },
    makeSvg("path", { class: `curve dash-${dash}`, d: "M0 4H30" }));
}

/** Which label was predicted for which: true labels down, predicted ones across. */
function confusionTable(confusion, kept) {
  const end = confusion.labels.length;
  const places = [...kept, end];
  const head = make("tr", {}, make("th", { scope: "col" }, "true \u2193 predicted \u2192"),
    ...places.map((j) => make("th", { scope: "col" },
      make("span", { class: "tilted" }, j === end ? "missed" : confusion.labels[j]))));
  const rows = places.map((i) => {
    const total = confusion.counts[i].reduce((sum, count) => sum + count, 0);
    const name = i === end ? "background" : confusion.labels[i];
    return make("tr", {}, make("th", { scope: "row" }, name),
      ...places.map((j) => confusionCell(confusion.counts[i][j], total, i === j, i === end && j === end)));
  });
  return make("table", { class: "confusion" }, make("thead", {}, head), make("tbody", {}, ...rows));
}

function confusionCell(count, total, right, undefinedCell) {
  if (undefinedCell) return make("td", { class: "zero" }, "\u2013");
  const kind = `${right ? "right" : ""}${count ? "" : " zero"}`;
  const cell = make("td", { class: kind || null }, count ? String(count) : "");
  // At most 40 % of the accent under the text keeps the text readable.
  const strength = total ? Math.round((40 * count) / total) : 0;
  if (strength) cell.style.background = `color-mix(in srgb, var(--accent) ${strength}%, var(--raised))`;
  return cell;
}

/** Stacked bars: chart {title, bars: [[name, [[part, value]]]]} in percent; gains have their own scale. */
function stackedChart(chart) {
  const parts = [...new Set(chart.bars.flatMap(([, stack]) => stack.map(([part]) => part)))];
  const totals = chart.bars.map(([, stack]) => stack.reduce((sum, [, value]) => sum + value, 0));
  const isGain = parts.length === 1 && parts[0] === "gain";
  const full = isGain ? Math.max(...totals, Number.MIN_VALUE) : Math.max(100, ...totals);
  const rows = chart.bars.map(([name, stack], i) => {
    const fills = stack.map(([part, value]) => {
      const color = parts.length > 1 ? `c${partColor(parts.indexOf(part))}` : "";
      const fill = make("span", { class: `bar-fill ${color}`, title: `${part}: ${short(value)}` });
      fill.style.width = `${(100 * value) / full}%`;
      return fill;
    });
    return make("div", { class: "bar-row" }, make("span", {}, name),
      make("span", { class: "bar-track", "aria-hidden": "true" }, ...fills), make("span", {}, short(totals[i])));
  });
  const legend = parts.map((part, n) => make("li", {},
    make("span", { class: `swatch c${partColor(n)}` }), part));
  return make("figure", {}, make("h4", {}, chart.title),
    parts.length > 1 ? make("ul", { class: "legend" }, ...legend) : "", ...rows, numbersOf(chart, parts));
}

/** Neighbours in a bar get colours that differ in lightness. */
const partColor = (n) => [5, 2, 4, 8, 9, 3, 6, 1, 7, 0][n % 10];

function numbersOf(chart, parts) {
  const rows = chart.bars.map(([name, stack]) => {
    const values = new Map(stack);
    return make("tr", {}, make("th", { scope: "row" }, name),
      ...parts.map((part) => make("td", {}, values.has(part) ? short(values.get(part)) : "")));
  });
  const head = make("tr", {}, make("th"), ...parts.map((part) => make("th", { scope: "col" }, part)));
  return make("details", {}, make("summary", {}, "Numbers"), make("div", { class: "scroll" },
    make("table", { class: "plain" }, make("thead", {}, head), make("tbody", {}, ...rows))));
}

const short = (value) => value.toFixed(1);
