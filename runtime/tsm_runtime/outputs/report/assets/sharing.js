// What leaves the page: its address with the moment that is shown, and the listed segments as CSV.

const REST_MILLISECONDS = 300;

/** Keeps `#video=ID&t=SECONDS` in the page's address, and goes where such an address leads. */
class MomentLink {
  constructor(onOpen) {
    this.onOpen = onOpen;
    this.timer = null;
    addEventListener("hashchange", () => this.follow());
  }

  /** Note the moment once the playhead rests. */
  note(id, seconds) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      const hash = `#${new URLSearchParams({ video: id, t: seconds.toFixed(2) })}`;
      try { history.replaceState(null, "", hash); } catch { /* the browser forbids it to a page from a file */ }
    }, REST_MILLISECONDS);
  }

  /** Go to the moment of the address; false where it names none. */
  follow() {
    const named = new URLSearchParams(location.hash.slice(1));
    const seconds = Number(named.get("t"));
    if (!named.has("video")) return false;
    clearTimeout(this.timer);
    return this.onOpen(named.get("video"), Number.isFinite(seconds) ? Math.max(0, seconds) : 0);
  }
}

/** Rows of values as CSV; a text that a spreadsheet would run as a formula gets an apostrophe. */
function csvOf(rows) {
  const cell = (content) => {
    if (typeof content === "number") return String(content);
    const text = /^[=+\-@\t\r]/.test(content) ? `'${content}` : content;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return rows.map((row) => `${row.map(cell).join(",")}\r\n`).join("");
}

function download(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = make("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}
