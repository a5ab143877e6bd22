// The lines that the page holds: the newest in one ring, those that were asked for in another.

const BYTES_A_PIXEL = 5;
const MOST_BYTES = 64 << 20;
const MOST_LINES = 16384;

class Ring {
  constructor(samples, lines) {
    this.samples = samples;
    this.lines = lines;
    this.numbers = new Int32Array(lines).fill(-1);
    this.colours = new Uint8Array(3 * samples * lines);
    this.labels = new Uint8Array(samples * lines);
    this.confidence = new Uint8Array(samples * lines);
  }

  put(message) {
    const { samples } = this;
    for (let row = Math.max(0, message.count - this.lines); row < message.count; row++) {
      const slot = (message.first + row) % this.lines;
      const from = row * samples;
      this.numbers[slot] = message.first + row;
      this.colours.set(message.colours.subarray(3 * from, 3 * (from + samples)), 3 * slot * samples);
      this.labels.set(message.labels.subarray(from, from + samples), slot * samples);
      this.confidence.set(message.confidence.subarray(from, from + samples), slot * samples);
    }
  }

  // The line's first pixel in the arrays, or -1.
  find(line) {
    const slot = line % this.lines;
    return line >= 0 && this.numbers[slot] === line ? slot * this.samples : -1;
  }
}

export class History {
  constructor(samples, head) {
    const lines = Math.min(MOST_LINES, Math.floor(MOST_BYTES / (BYTES_A_PIXEL * samples)));
    this.samples = samples;
    this.newest = head; // the line behind the newest
    this.held = lines;
    this.#live = new Ring(samples, lines);
    this.#past = new Ring(samples, Math.min(lines, 4096));
  }

  #live;
  #past;

  put(message) {
    // What is old was asked for: it must not take the place of what is new.
    const end = message.first + message.count;
    (message.first >= this.newest || this.newest - message.first <= this.held ? this.#live : this.#past).put(message);
    this.newest = Math.max(this.newest, end);
  }

  // {ring, at} of a line, or null where it is not here.
  find(line) {
    for (const ring of [this.#live, this.#past]) {
      const at = ring.find(line);
      if (at >= 0) return { ring, at };
    }
    return null;
  }

  // The stretches of [first, end) that are not here.
  missing(first, end) {
    const stretches = [];
    for (let line = Math.max(first, 0); line < end; line++) {
      if (this.find(line)) continue;
      const last = stretches.at(-1);
      if (last && last.first + last.count === line) last.count++;
      else stretches.push({ first: line, count: 1 });
    }
    return stretches;
  }
}
