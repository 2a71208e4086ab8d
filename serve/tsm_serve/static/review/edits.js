// Edits of a list of annotations; each returns a new list in order of time.

/** @typedef {import("./types.js").Annotation} Annotation */

const SAME = 1e-6;

/** @param {Annotation} a @param {Annotation} b */
export const same = (a, b) =>
  a.label === b.label && Math.abs(a.segment[0] - b.segment[0]) < SAME && Math.abs(a.segment[1] - b.segment[1]) < SAME;

/** @param {Annotation[]} list @returns {Annotation[]} */
export function ordered(list) {
  return [...list].sort(
    (a, b) => a.segment[0] - b.segment[0] || a.segment[1] - b.segment[1] || (a.label < b.label ? -1 : 1),
  );
}

/** @param {Annotation[]} list @param {...Annotation} added those that are there already are left out */
export function add(list, ...added) {
  const fresh = added.filter((one) => one.segment[1] > one.segment[0] && !list.some((other) => same(one, other)));
  return ordered([...list, ...fresh]);
}

/** @param {Annotation[]} list @param {Annotation} one */
export const remove = (list, one) => list.filter((other) => other !== one);

/** @param {Annotation[]} list @param {Annotation} one @param {Annotation} by */
export const replace = (list, one, by) => ordered(list.map((other) => (other === one ? by : other)));

/** @param {Annotation[]} list @param {Annotation} one @param {number} at seconds, inside the segment */
export function split(list, one, at) {
  const [start, end] = one.segment;
  if (!(start + SAME < at && at < end - SAME)) return list;
  const first = { label: one.label, segment: /** @type {[number, number]} */ ([start, at]) };
  const second = { label: one.label, segment: /** @type {[number, number]} */ ([at, end]) };
  return ordered([...remove(list, one), first, second]);
}

/**
 * Joins a segment with the next one of its label.
 * @param {Annotation[]} list
 * @param {Annotation} one
 * @returns {{list: Annotation[], merged: Annotation | null}}
 */
export function merge(list, one) {
  const next = ordered(list).find(
    (other) => other !== one && other.label === one.label && other.segment[0] >= one.segment[0],
  );
  if (!next) return { list, merged: null };
  const merged = {
    label: one.label,
    segment: /** @type {[number, number]} */ ([one.segment[0], Math.max(one.segment[1], next.segment[1])]),
  };
  return { list: ordered([...list.filter((other) => other !== one && other !== next), merged]), merged };
}

/**
 * @param {Annotation} one
 * @param {"start" | "end" | "both"} which
 * @param {number} to seconds; of "both" the new start
 * @param {number} least shortest length
 * @returns {Annotation}
 */
export function moved(one, which, to, least = 0.001) {
  const [start, end] = one.segment;
  if (which === "both") return { label: one.label, segment: [Math.max(0, to), Math.max(0, to) + end - start] };
  if (which === "start") return { label: one.label, segment: [Math.max(0, Math.min(to, end - least)), end] };
  return { label: one.label, segment: [start, Math.max(to, start + least)] };
}
