// Shapes of what the server sends; for the type checker alone.

/** @typedef {"new" | "draft" | "checking" | "done"} State */
/** @typedef {[number, number]} Span */
/** @typedef {{label: string, segment: Span, by?: string, at?: string}} Annotation */
/** @typedef {{label: string, segment: Span, score: number}} DraftSegment */
/** @typedef {{label: string, score: number}} SceneScore */
/**
 * @typedef {object} Line
 * @property {string} id
 * @property {State} state
 * @property {number | null} seconds
 * @property {number} segments
 * @property {number} drafted
 * @property {string} subset
 */
/**
 * @typedef {object} ShownPart
 * @property {string} etag
 * @property {Annotation[]} annotations
 * @property {string} scene
 * @property {string} comment
 * @property {Record<string, Annotation[]>} others
 * @property {string} by
 * @property {string} at
 * @property {string} file
 * @property {DraftSegment[]} drafts
 * @property {SceneScore[]} draftScenes
 * @property {string} draftFailure
 */
/** @typedef {Line & ShownPart} Shown */
/**
 * @typedef {object} Project
 * @property {string} folder
 * @property {string} truth
 * @property {string} who
 * @property {string[]} labels
 * @property {Record<string, number>} colors
 * @property {string[]} scenes
 * @property {string | null} readOnly
 * @property {string[]} strangers
 * @property {string | null} recovered
 */
/**
 * What is saved of a video.
 * @typedef {object} Edit
 * @property {Annotation[]} annotations
 * @property {"checking" | "done"} state
 * @property {string} subset
 * @property {string} scene
 * @property {string} comment
 * @property {string} layer
 */

export {};
