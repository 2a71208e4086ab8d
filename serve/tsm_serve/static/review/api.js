// Calls of the server; each carries the token of the page's own address.

/** @typedef {import("./types.js").Shown} Shown */

const token = new URLSearchParams(location.search).get("token") ?? "";

/** The server answered with an error. */
export class Refused extends Error {
  /** @param {number} status @param {any} body */
  constructor(status, body) {
    super(body?.error ?? `the server answered ${status}`);
    this.status = status;
    /** @type {Shown | undefined} what is stored now, where an edit met another one */
    this.current = body?.current;
  }
}

/** @param {string} path @param {Record<string, string | number>} parameters @returns {string} */
export function address(path, parameters = {}) {
  const query = new URLSearchParams({ token });
  for (const [name, value] of Object.entries(parameters)) query.set(name, String(value));
  return `${path}?${query}`;
}

/**
 * @param {string} path
 * @param {Record<string, string | number>} parameters
 * @param {{method?: string, body?: unknown}} options
 * @returns {Promise<any>}
 */
export async function call(path, parameters = {}, options = {}) {
  const body = options.body === undefined ? undefined : JSON.stringify(options.body);
  const answer = await fetch(address(path, parameters), { method: options.method ?? "GET", body });
  const value = await answer.json().catch(() => null);
  if (!answer.ok) throw new Refused(answer.status, value);
  return value;
}

/**
 * Follows the server's events; connects again when the server comes back.
 * @param {(event: any) => void} onEvent
 * @param {(connected: boolean) => void} onState
 */
export function listen(onEvent, onState) {
  const source = new EventSource(address("/api/events"));
  source.onopen = () => onState(true);
  source.onmessage = (message) => onEvent(JSON.parse(message.data));
  source.onerror = () => {
    onState(false);
    if (source.readyState === EventSource.CLOSED) setTimeout(() => listen(onEvent, onState), 2000);
  };
  addEventListener("pagehide", () => source.close());
}
