// The overview of several videos: a picture, when what happens, and the time of each class in all of them.

/** Shows a row per video; `open` is called with the number of the chosen one. */
class Overview {
  constructor(data, open) {
    this.data = data;
    this.rows = data.videos.map((video, i) => this.row(video, i, open));
    const search = byId("overview-search");
    search.addEventListener("input", () => this.search(search.value));
    byId("overview").replaceChildren(...this.rows);
    byId("totals").replaceChildren(...this.totals());
    byId("overview-section").hidden = false;
    this.search("");
  }

  row(video, index, open) {
    const picture = this.data.thumbnails[index];
    const found = video.members[0].segments;
    const row = make("button", { type: "button", class: "overview-row" },
      picture ? make("img", { src: picture, alt: "", loading: "lazy" }) : make("span", { class: "no-picture" }),
      make("span", { class: "name" }, video.id), this.ethogram(video, found),
      make("span", { class: "number" }, clock(video.duration, 0)), make("span", { class: "number" }, String(found.length)));
    row.setAttribute("aria-label", `${video.id}: ${found.length} segments in ${clock(video.duration, 0)}`);
    row.addEventListener("click", () => open(index));
    return row;
  }

  /** Segments as bars over the video's own length; where classes overlap, each has its part of the height. */
  ethogram(video, segments) {
    const svg = makeSvg("svg", { class: "ethogram", viewBox: "0 0 1000 18", preserveAspectRatio: "none", "aria-hidden": "true" });
    const scale = 1000 / Math.max(video.duration, Number.MIN_VALUE);
    const labels = [...new Set(segments.map(([label]) => label))];
    const overlap = segments.some((a, i) => segments.some((b, j) => j > i && a[0] !== b[0] && a[1] < b[2] && b[1] < a[2]));
    const height = overlap ? 18 / labels.length : 18;
    for (const [label, start, end] of segments) {
      svg.append(makeSvg("rect", {
        class: `c${this.data.colors[label]}`, x: start * scale, width: Math.max((end - start) * scale, 1.5),
        y: overlap ? labels.indexOf(label) * height : 0, height,
      }, makeSvg("title", {}, `${this.data.labels[label]} ${clock(start)} to ${clock(end)}`)));
    }
    return svg;
  }

  /** A bar per class on one scale: seconds in all videos, and in how many of them. */
  totals() {
    const seconds = new Map();
    const videos = new Map();
    for (const video of this.data.videos) {
      const found = video.members[0].segments;
      for (const [label, start, end] of found) seconds.set(label, (seconds.get(label) ?? 0) + end - start);
      for (const label of new Set(found.map(([label]) => label))) videos.set(label, (videos.get(label) ?? 0) + 1);
    }
    const most = Math.max(...seconds.values(), Number.MIN_VALUE);
    return [...seconds].sort((a, b) => b[1] - a[1]).map(([label, sum]) => barRow("li", this.data.labels[label],
      sum / most, `${clock(sum, 0)} in ${videos.get(label)} ${videos.get(label) === 1 ? "video" : "videos"}`, { class: `bar-row c${this.data.colors[label]}`,
        title: `${sum.toFixed(1)} s in ${videos.get(label)} of ${this.data.videos.length} videos` }));
  }

  search(text) {
    const wanted = text.trim().toLowerCase();
    let shown = 0;
    this.rows.forEach((row, i) => {
      row.hidden = !this.data.videos[i].id.toLowerCase().includes(wanted);
      shown += row.hidden ? 0 : 1;
    });
    byId("overview-count").textContent = `${shown} of ${this.rows.length} videos`;
  }

  mark(index) {
    this.rows.forEach((row, i) => { if (i === index) row.setAttribute("aria-current", "true"); else row.removeAttribute("aria-current"); });
  }
}

function showAbout(data) {
  byId("caveats").replaceChildren(...data.caveats.map((text) => make("p", { class: "notice" },
    make("span", { "aria-hidden": "true" }, "\u26a0"), make("span", {}, text))));
  byId("about").hidden = !data.about.length;
  byId("about-list").replaceChildren(...data.about.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]));
}
