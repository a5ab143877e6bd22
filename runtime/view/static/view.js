// The page: what is shown, and what keys, pointer and fingers do to it.

import { Connection } from "/connection.js";
import { History } from "/history.js";
import { Course, drawSpectrum } from "/plots.js";
import { Waterfall } from "/waterfall.js";

const ASK_MILLISECONDS = 80; // between two spectra
const QUIET_MILLISECONDS = 500; // between two frames where less motion is wanted
const WORDS_MILLISECONDS = 200;
const MOST_ASKED = 4096; // lines at a time
const ASK_AGAIN_MILLISECONDS = 3000; // for lines that did not come
const STATES = {
  flying: "in flight",
  replaying: "replay",
  ended: "the strip has ended",
  stopped: "the run stopped without an end: was it killed?",
};

const by = (id) => document.getElementById(id);
const canvas = by("waterfall");
const waterfall = new Waterfall(canvas);
const lessMotion = matchMedia("(prefers-reduced-motion: reduce)");

let strip = null; // its description
let history = null;
let bottom = 0; // the line behind the last that is shown
let following = true; // the newest line
let cursor = null; // {line, sample}
let spectrum = null; // the latest answer
let asked = { at: 0, line: -1, sample: -1, waiting: false };
const wanted = new Map(); // stretches of lines that were asked for, and when; those that are gone, never again
let missed = 0;
let counted = { since: performance.now(), frames: 0, bytes: 0 };
let drawnAt = 0;
let wordsAt = 0;
let connected = false;

const courses = Object.fromEntries(
  [
    ["rate", "lines/s"],
    ["latency", "latency"],
    ["queue", "queue"],
    ["drops", "drops"],
    ["power", "power"],
  ].map(([key, name]) => [key, new Course(by("strips"), name)]),
);

const connection = new Connection({
  opened: () => {
    connected = true;
  },
  lost: (reason) => {
    connected = false;
    say("waiting", `${reason}, trying again`);
  },
  lines: takeLines,
  json: (message) =>
    ({ strip: takeStrip, status: takeStatus, spectrum: takeSpectrum, missed: takeMissed, gone: takeGone })[
      message.kind
    ]?.(message),
});

// ---- what comes

function takeStrip(message) {
  const again = strip?.session === message.session;
  strip = message;
  by("strip").textContent = message.source;
  const block = message.block_lines > 1 ? `, blocks of ${message.block_lines} lines` : "";
  by("model").textContent = `${message.model}${message.precision ? `, ${message.precision}` : ""}${block}`;
  document.title = `${message.source} – hyperline view`;
  by("left-caption").textContent = message.coloured ? "Colour" : "Colour (not recorded)";
  by("right-caption").textContent = "Classes";
  if (!again) {
    history = new History(message.samples, message.head);
    cursor = spectrum = null;
    bottom = message.head;
    following = true;
    wanted.clear();
    missed = 0;
    for (const course of Object.values(courses)) course.clear();
    makeLegend();
  }
  waterfall.show(history, message.colours);
  askForWhatIsMissing();
  showButtons();
}

function takeLines(message) {
  counted.bytes += message.bytes;
  if (!history || message.samples !== history.samples) return;
  const before = history.newest;
  if (message.first > before) askFor(before, message.first - before);
  history.put(message);
  // Lines that were asked for, or that the picture shows as missing.
  if (message.first < waterfall.bottom && message.first + message.count > waterfall.bottom - waterfall.rows) {
    waterfall.renew();
  }
}

function takeMissed({ first, count }) {
  missed += count;
  document.documentElement.dataset.missed = missed;
  askFor(first, count);
}

function takeGone({ first, count }) {
  wanted.set(`${first}+${count}`, Infinity);
}

function takeStatus(message) {
  if (!strip) return;
  say(message.state, STATES[message.state] ?? message.state);
  const flying = message.state === "flying";
  const known = (value) => value !== null && value !== undefined;
  const add = (course, value, text, bad) => course.add(known(value) ? value : null, known(value) ? text(value) : "–", bad);
  add(courses.rate, message.lines_per_second, (value) => `${Math.round(value)} lines/s`);
  const late = strip.rate && strip.live && (message.latency_ms ?? 0) > (1e3 * strip.block_lines) / strip.rate;
  add(courses.latency, message.latency_ms ?? (flying ? null : undefined), (value) => `${value.toFixed(1)} ms`, late);
  add(courses.queue, message.waiting, (value) => `${value} lines`);
  add(courses.drops, message.dropped, (value) => `${value} lines`, message.dropped > 0);
  courses.power.add(message.watts ?? null, known(message.watts) ? `${message.watts.toFixed(1)} W` : "no power sensor");
  showCounters(message);
  showLegend(message);
  showLinks(message.links ?? {});
  showEvents(message.events ?? []);
}

function takeSpectrum({ for_line: line, for_sample: sample, found }) {
  asked.waiting = false;
  spectrum = { line, sample, found };
  showSpectrum();
}

// ---- asking

function askFor(first, count) {
  const key = `${first}+${count}`;
  const now = performance.now();
  if (now - (wanted.get(key) ?? -Infinity) < ASK_AGAIN_MILLISECONDS) return;
  if (wanted.size > 500) wanted.clear();
  wanted.set(key, now);
  // Of a long stretch, what the picture can show.
  const begin = Math.max(first, first + count - MOST_ASKED);
  connection.ask({ want: "lines", first: begin, count: Math.min(first + count - begin, MOST_ASKED) });
}

function askForWhatIsMissing() {
  if (!history) return;
  const end = Math.min(bottom, history.newest);
  for (const { first, count } of history.missing(end - waterfall.rows, end).slice(-6)) askFor(first, count);
}

function askForSpectrum() {
  if (!cursor || !strip?.spectra_step) return;
  const now = performance.now();
  if (asked.waiting && now - asked.at < 1000) return;
  if ((asked.line === cursor.line && asked.sample === cursor.sample) || now - asked.at < ASK_MILLISECONDS) return;
  asked = { at: now, line: cursor.line, sample: cursor.sample, waiting: true };
  connection.ask({ want: "spectrum", line: cursor.line, sample: cursor.sample });
}

// ---- showing

function frame(now) {
  requestAnimationFrame(frame);
  if (!history) return;
  if (following) bottom = history.newest;
  if (!lessMotion.matches || now - drawnAt >= QUIET_MILLISECONDS) {
    if (waterfall.draw(bottom)) {
      drawnAt = now;
      counted.frames++;
      placeCursor();
    }
  }
  askForSpectrum();
  if (now - wordsAt >= WORDS_MILLISECONDS) {
    wordsAt = now;
    showWords(now);
  }
}

function showWords(now) {
  const top = Math.max(0, bottom - waterfall.rows);
  by("top-line").textContent = `line ${top.toLocaleString("en")}`;
  by("bottom-line").textContent = bottom ? `line ${(bottom - 1).toLocaleString("en")}` : "";
  const position = by("position");
  position.max = history.newest;
  position.min = Math.min(waterfall.rows, history.newest);
  position.value = bottom;
  position.setAttribute("aria-valuetext", `line ${Math.max(0, bottom - 1)} of ${history.newest}`);
  const waiting = history.newest === 0 && connected;
  by("notice").hidden = !waiting;
  if (waiting) by("notice").textContent = "no line yet";
  if (!following) askForWhatIsMissing();
  showReadout();
  const seconds = (now - counted.since) / 1e3;
  if (seconds >= 1) {
    const frames = counted.frames / seconds;
    document.documentElement.dataset.framesPerSecond = frames.toFixed(1);
    const parts = [`${frames.toFixed(0)} frames/s`, `${(counted.bytes / seconds / 1e6).toFixed(2)} MB/s`];
    if (missed) parts.push(`${missed} lines came late to this page`);
    parts.push(`1 line = ${waterfall.lineHeight} row${waterfall.lineHeight > 1 ? "s" : ""} of the picture`);
    by("speed").textContent = parts.join(" · ");
    counted = { since: now, frames: 0, bytes: 0 };
  }
}

function say(state, text) {
  if (by("state").dataset.state !== state) by("state").dataset.state = state;
  if (by("state-text").textContent !== text) by("state-text").textContent = text;
}

function makeLegend() {
  const body = by("legend").tBodies[0];
  body.replaceChildren(
    ...strip.class_names.map((name, label) => {
      const row = document.createElement("tr");
      row.append(...["", "–", "–"].map((text) => Object.assign(document.createElement("td"), { textContent: text })));
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.backgroundColor = `rgb(${strip.colours[label].join(" ")})`;
      row.cells[0].append(swatch, name);
      row.cells[0].title = name;
      return row;
    }),
  );
}

function showLegend({ pixels, head, counted: lines }) {
  if (!pixels) return;
  const sum = (counts) => counts.reduce((total, count) => total + count, 0);
  const [recent, whole] = [sum(pixels.recent), sum(pixels.whole)];
  const share = (count, total) => (total ? `${((100 * count) / total).toFixed(1)} %` : "–");
  [...by("legend").tBodies[0].rows].forEach((row, label) => {
    row.cells[1].textContent = share(pixels.recent[label] ?? 0, recent);
    row.cells[2].textContent = share(pixels.whole[label] ?? 0, whole);
    row.classList.toggle("absent", !pixels.whole[label]);
  });
  const behind = head - lines;
  by("legend-note").textContent =
    `Latest: the last ${Math.round(recent / strip.samples).toLocaleString("en")} lines.` +
    (behind > 2048 ? ` ${behind.toLocaleString("en")} lines of the strip are still to be counted.` : "") +
    (waterfall.shaded ? " Darker: less confident." : "");
}

function showCounters(message) {
  const words = [
    ["received", "received"],
    ["classified", "classified"],
    ["rejected", "rejected"],
    ["lost", "lost on the way"],
    ["missed", "blocks past their deadline"],
    ["failed", "blocks no engine could classify"],
    ["unwritten", "not written"],
  ];
  const said = words
    .filter(([key], index) => Number.isFinite(message[key]) && (message[key] > 0 || index < 2))
    .map(([key, text]) => `${message[key].toLocaleString("en")} ${text}`);
  if (message.disk_fails) said.push("the disk takes no lines");
  if (message.engine) said.push(`engine ${message.engine}`);
  by("counters").textContent = said.join(" · ") + (strip.live ? "" : said.length ? " (whole strip)" : "");
}

function listItem(left, right, kind) {
  const item = document.createElement("li");
  item.append(...[left, right].map((text) => Object.assign(document.createElement("span"), { textContent: text })));
  if (kind) item.lastChild.className = kind;
  item.title = left;
  return item;
}

function replaceWhereChanged(list, items) {
  const text = items.map((item) => item.textContent).join("\n");
  if (list.dataset.shown === text) return;
  list.dataset.shown = text;
  list.replaceChildren(...(items.length ? items : [Object.assign(listItem("none", ""), { className: "note" })]));
}

function showLinks(links) {
  const items = Object.entries(links).map(([name, link]) => {
    const details = [`${link.sent ?? 0} sent`];
    if (link.queued) details.push(`${link.queued} wait`);
    if (link.dropped) details.push(`${link.dropped} dropped`);
    const kind = link.state === "up" ? "up" : link.state === "down" ? "down" : "";
    const item = listItem(name, `${link.state}, ${details.join(", ")}`, kind);
    if (link.error) item.title = `${name}: ${link.error}`;
    return item;
  });
  replaceWhereChanged(by("links"), items);
}

function showEvents(events) {
  const items = events.toReversed().map((event) => {
    const item = document.createElement("li");
    const go = document.createElement("button");
    const place = `line ${event.lines[0]}, sample ${event.samples?.[0] ?? "?"}`;
    go.append(
      Object.assign(document.createElement("span"), { textContent: `${event.name}, ${event.pixels} pixels` }),
      Object.assign(document.createElement("span"), { textContent: place }),
    );
    go.addEventListener("click", () => {
      const [line, sample] = (event.centre ?? [event.lines[0], 0]).map(Math.round);
      goTo(Math.min(history.newest, event.lines[1] + 1 + Math.round(waterfall.rows / 4)), false);
      moveCursor({ line, sample });
    });
    item.append(go);
    return item;
  });
  replaceWhereChanged(by("events"), items);
}

function showReadout() {
  if (!cursor || !history) return;
  const found = history.find(cursor.line);
  const parts = [`line ${cursor.line.toLocaleString("en")}, sample ${cursor.sample}`];
  let label = -1;
  if (found) {
    label = found.ring.labels[found.at + cursor.sample];
    const confidence = found.ring.confidence[found.at + cursor.sample];
    parts.push(strip.class_names[label] ?? `class ${label}`);
    if (label) parts.push(`confidence ${Math.round((100 * confidence) / 255)} %`);
  }
  const strong = Object.assign(document.createElement("strong"), { textContent: parts.join(" · ") });
  if (by("readout").textContent !== strong.textContent) by("readout").replaceChildren(strong);
  [...by("legend").tBodies[0].rows].forEach((row, index) => row.classList.toggle("pointed", index === label));
  if (!strip.spectra_step) showClassSpectrum(label);
}

function showSpectrum() {
  const note = by("spectrum-note");
  if (!spectrum?.found) {
    drawSpectrum(by("spectrum"), null);
    note.textContent = cursor
      ? `Spectra are kept for the newest ${strip.ring_lines.toLocaleString("en")} lines.`
      : "Of the pixel under the pointer.";
    return;
  }
  const { line, sample, values } = spectrum.found;
  drawSpectrum(by("spectrum"), values, strip.wavelengths_nm);
  const step = strip.spectra_step;
  note.textContent =
    `Line ${line.toLocaleString("en")}, sample ${sample}, as the model saw it` +
    (step > 1 ? `; one in ${step} lines and samples is kept, this is the nearest.` : ".");
}

function showClassSpectrum(label) {
  const values = strip.class_spectra?.[label];
  const note = values
    ? `Mean of class ${strip.class_names[label]} over the strip; the pixel's own was not recorded.`
    : "No spectrum of this was recorded.";
  if (by("spectrum-note").textContent === note) return;
  by("spectrum-note").textContent = note;
  drawSpectrum(by("spectrum"), values, strip.wavelengths_nm);
}

function showButtons() {
  by("pause").setAttribute("aria-pressed", String(!following));
  by("pause").firstChild.textContent = following ? "Pause " : "Paused ";
  by("confidence").setAttribute("aria-pressed", String(waterfall.shaded));
  by("newest").disabled = following;
}

function placeCursor() {
  const place = cursor && waterfall.place(cursor);
  for (const id of ["cursor-line", "cursor-left", "cursor-right"]) by(id).hidden = !place;
  if (!place) return;
  by("cursor-line").style.transform = `translateY(${place.y}px)`;
  by("cursor-left").style.transform = `translateX(${place.left}px)`;
  by("cursor-right").style.transform = `translateX(${place.right}px)`;
}

// ---- doing

function goTo(line, follow = line >= history.newest) {
  following = follow;
  bottom = Math.max(Math.min(line, history.newest), Math.min(waterfall.rows, history.newest));
  askForWhatIsMissing();
  showButtons();
}

function scroll(lines) {
  if (history) goTo(bottom + lines);
}

function moveCursor(place) {
  cursor = place;
  if (!place) {
    spectrum = null;
    by("readout").textContent = "Point at a pixel, or move a cursor with Shift and the arrow keys.";
    showSpectrum();
  }
  placeCursor();
  if (place) showReadout();
}

function stepCursor(key, size) {
  if (!history?.newest) return;
  following = false; // or it would run away
  const at = cursor ?? { line: bottom - Math.ceil(waterfall.rows / 2), sample: history.samples >> 1 };
  const line = at.line + size * ({ ArrowUp: -1, ArrowDown: 1 }[key] ?? 0);
  const sample = at.sample + size * ({ ArrowLeft: -1, ArrowRight: 1 }[key] ?? 0);
  const place = {
    line: Math.max(0, Math.min(line, history.newest - 1)),
    sample: Math.max(0, Math.min(sample, history.samples - 1)),
  };
  if (place.line >= bottom) goTo(place.line + 1, false);
  if (place.line < bottom - waterfall.rows) goTo(place.line + waterfall.rows, false);
  showButtons();
  waterfall.draw(bottom);
  moveCursor(place);
}

function togglePause() {
  if (!history) return;
  following = !following;
  showButtons();
}

function toggleConfidence() {
  waterfall.shaded = !waterfall.shaded;
  waterfall.renew();
  showButtons();
}

const THEMES = ["system", "light", "dark"];
function setTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  localStorage.setItem("hyperline-theme", theme);
  by("theme").title = `theme: ${theme}`;
}
function nextTheme() {
  const now = document.documentElement.dataset.theme ?? "system";
  setTheme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
}

function toggleHelp() {
  const help = by("help");
  help.hidden = !help.hidden;
  by("keys").setAttribute("aria-expanded", String(!help.hidden));
}

const KEYS = {
  " ": togglePause,
  c: toggleConfidence,
  t: nextTheme,
  "?": toggleHelp,
  Escape: () => moveCursor(null),
  ArrowUp: () => scroll(-16),
  ArrowDown: () => scroll(16),
  PageUp: () => scroll(-waterfall.rows),
  PageDown: () => scroll(waterfall.rows),
  Home: () => history && goTo(0, false),
  End: () => history && goTo(history.newest),
};

document.addEventListener("keydown", (event) => {
  if (event.altKey || event.metaKey) return;
  const { target } = event;
  if (event.shiftKey && event.key.startsWith("Arrow")) {
    stepCursor(event.key, event.ctrlKey ? 16 : 1);
    event.preventDefault();
    return;
  }
  if (event.ctrlKey) return;
  // A button has the space bar, the slider its arrows, for themselves.
  if (target instanceof HTMLButtonElement && event.key === " ") return;
  if (target instanceof HTMLInputElement && (event.key.startsWith("Arrow") || ["Home", "End", "PageUp", "PageDown"].includes(event.key))) return;
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act) return;
  act();
  event.preventDefault();
});

by("pause").addEventListener("click", togglePause);
by("newest").addEventListener("click", KEYS.End);
by("confidence").addEventListener("click", toggleConfidence);
by("theme").addEventListener("click", nextTheme);
by("keys").addEventListener("click", toggleHelp);
by("position").addEventListener("input", ({ target }) => history && goTo(Number(target.value)));

canvas.addEventListener(
  "wheel",
  (event) => {
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 * event.deltaY : event.deltaY;
    scroll(Math.round((lines * devicePixelRatio) / (waterfall.lineHeight ?? 1)));
  },
  { passive: false },
);

let drag = null;
canvas.addEventListener("pointerdown", (event) => {
  if (event.pointerType === "mouse") return;
  canvas.setPointerCapture(event.pointerId);
  drag = { y: event.clientY, bottom, moved: false };
});
canvas.addEventListener("pointermove", (event) => {
  if (drag) {
    const lines = Math.round(((drag.y - event.clientY) * devicePixelRatio) / waterfall.lineHeight);
    if (Math.abs(event.clientY - drag.y) > 6) drag.moved = true;
    if (drag.moved) goTo(drag.bottom + lines);
    return;
  }
  point(event);
});
canvas.addEventListener("pointerup", (event) => {
  if (drag && !drag.moved) point(event);
  drag = null;
});
canvas.addEventListener("pointercancel", () => {
  drag = null;
});
canvas.addEventListener("pointerleave", (event) => {
  if (event.pointerType === "mouse" && document.activeElement !== canvas) moveCursor(null);
});

function point(event) {
  const place = waterfall.locate(event.offsetX, event.offsetY);
  if (place) moveCursor(place);
}

// A canvas of a new size is empty, and is shown before the next frame.
new ResizeObserver(() => {
  waterfall.resize();
  waterfall.draw(bottom);
}).observe(by("stage"));

// The token has done its work: it is in a cookie that this page cannot read, and is to be in no history.
if (location.search) window.history.replaceState(null, "", location.pathname);
setTheme(localStorage.getItem("hyperline-theme") ?? "system");
showButtons();
requestAnimationFrame(frame);
