// Scores per interval: a byte per class and interval, drawn as a band whose strength is the score.

class Strip {
  /** data: {labels, interval, runs: [[first, count]], data: base64 of (A, K) bytes}. */
  constructor(data) {
    this.interval = data.interval;
    this.labels = data.labels;
    this.bytes = Uint8Array.from(atob(data.data), (c) => c.charCodeAt(0));
    this.count = this.bytes.length / Math.max(1, data.labels.length);
    this.last = data.runs.reduce((last, [first, count]) => Math.max(last, first + count), 0);
    this.column = new Int32Array(this.last).fill(-1);  // column of interval k, -1 where nothing was classified
    let column = 0;
    for (const [first, count] of data.runs) {
      for (let i = 0; i < count; i++) this.column[first + i] = column++;
    }
    this.row = new Map(data.labels.map((label, row) => [label, row]));
  }

  /** The best classes at a moment: [[label, score]], or null where nothing was classified. */
  at(seconds, number) {
    const column = this.column[Math.floor(seconds / this.interval + 1e-6)] ?? -1;
    if (column < 0) return null;
    const scores = this.labels.map((label, row) => [label, this.bytes[row * this.count + column] / 255]);
    return scores.sort((a, b) => b[1] - a[1]).slice(0, number);
  }

  /** Draw the band of a label for [from, to) seconds; several intervals under one pixel show their maximum. */
  draw(canvas, label, from, to, color) {
    const width = canvas.width;
    const context = canvas.getContext("2d");
    const picture = context.createImageData(width, 1);
    const base = this.row.get(label) * this.count;
    const perPixel = (to - from) / width / this.interval;
    for (let x = 0; x < width; x++) {
      const first = Math.max(0, Math.floor(from / this.interval + x * perPixel + 1e-6));
      const stop = Math.max(first + 1, Math.floor(from / this.interval + (x + 1) * perPixel + 1e-6));
      let best = 0;
      for (let k = first; k < stop && k < this.last; k++) {
        const column = this.column[k];
        if (column >= 0) best = Math.max(best, this.bytes[base + column]);
      }
      picture.data.set([...color, best], 4 * x);
    }
    context.putImageData(picture, 0, 0);
  }
}
