// Two waterfalls in one canvas, colour left and classes right. A line is a row of the canvas, or several: never less.
//
// The newest line is at the bottom: so the picture has the orientation of the maps that the run leaves, line 0 on top,
// and going back in the strip is scrolling up. Only rows that are new are made; the rest is moved.

const GAP = 8; // CSS pixels between the two
const CSS_BACKGROUND = "#23292f"; // of lines that are not here
const BACKGROUND = 0xff2f2923; // the same as a pixel
const LEAST_SHADE = 0.12; // so that a class of no confidence is still seen to be none of black

export class Waterfall {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.shaded = false;
    this.rows = 0; // lines that fit
    this.bottom = 0; // the line behind the last that is shown
    this.frames = 0;
    this.#shades = new Uint32Array(256 * 256);
  }

  #shades; // [label * 256 + confidence] -> pixel
  #drawn = null; // bottom at the last drawing; null: all is to be made
  #history = null;
  #from; // of each column: first sample, and the one behind the last
  #to;

  show(history, colours) {
    this.#history = history;
    for (let label = 0; label < 256; label++) {
      const [red, green, blue] = colours[label] ?? [255, 0, 255];
      for (let confidence = 0; confidence < 256; confidence++) {
        const share = LEAST_SHADE + ((1 - LEAST_SHADE) * confidence) / 255;
        this.#shades[label * 256 + confidence] = pixel(red * share, green * share, blue * share);
      }
    }
    this.resize();
  }

  resize() {
    const { canvas } = this;
    const scale = devicePixelRatio || 1;
    const width = Math.max(2, Math.round(canvas.clientWidth * scale));
    const height = Math.max(1, Math.round(canvas.clientHeight * scale));
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
    }
    this.gap = Math.round(GAP * scale);
    this.columns = Math.max(1, Math.floor((width - this.gap) / 2));
    if (!this.#history) return;
    const { samples } = this.#history;
    this.lineHeight = Math.max(1, Math.round(this.columns / samples));
    this.rows = Math.max(1, Math.floor(height / this.lineHeight));
    this.#from = Int32Array.from({ length: this.columns }, (_, column) => Math.floor((column * samples) / this.columns));
    this.#to = this.#from.map((from, column) =>
      Math.max(from + 1, Math.floor(((column + 1) * samples) / this.columns)),
    );
    canvas.dataset.lineHeight = this.lineHeight;
    canvas.dataset.columns = this.columns;
    canvas.dataset.gap = this.gap;
    this.renew();
  }

  // All rows are to be made: the history, the shading or the size changed.
  renew() {
    this.#drawn = null;
  }

  // Returns whether there was anything to draw.
  draw(bottom) {
    if (!this.#history || this.#drawn === bottom) return false;
    const { canvas, context, rows, lineHeight } = this;
    const moved = this.#drawn === null ? Infinity : bottom - this.#drawn;
    const top = bottom - rows;
    if (Math.abs(moved) >= rows) {
      context.fillStyle = CSS_BACKGROUND;
      context.fillRect(0, 0, canvas.width, canvas.height);
      this.#make(top, bottom, top);
    } else {
      context.drawImage(canvas, 0, -moved * lineHeight);
      if (moved > 0) this.#make(bottom - moved, bottom, top);
      else this.#make(top, top - moved, top);
      context.fillStyle = CSS_BACKGROUND;
      context.fillRect(0, 0, canvas.width, this.offset);
    }
    this.#drawn = this.bottom = bottom;
    canvas.dataset.bottom = bottom;
    canvas.dataset.rows = rows;
    canvas.dataset.frames = ++this.frames;
    return true;
  }

  #make(first, end, top) {
    const { canvas, context, lineHeight } = this;
    const image = context.createImageData(canvas.width, (end - first) * lineHeight);
    const pixels = new Uint32Array(image.data.buffer);
    pixels.fill(BACKGROUND);
    for (let line = first; line < end; line++) {
      const found = this.#history.find(line);
      if (!found) continue;
      const row = (line - first) * lineHeight * canvas.width;
      this.#makeRow(found, pixels, row);
      for (let copy = 1; copy < lineHeight; copy++) {
        pixels.copyWithin(row + copy * canvas.width, row, row + canvas.width);
      }
    }
    context.putImageData(image, 0, this.offset + (first - top) * lineHeight);
  }

  // Rows of the canvas above the first line, where the height is no multiple of a line's.
  get offset() {
    return this.canvas.height - this.rows * this.lineHeight;
  }

  #makeRow({ ring, at }, pixels, row) {
    const { columns, gap } = this;
    const { colours, labels, confidence } = ring;
    const classes = row + columns + gap;
    for (let column = 0; column < columns; column++) {
      const from = this.#from[column];
      const to = this.#to[column];
      let red = 0;
      let green = 0;
      let blue = 0;
      for (let at3 = 3 * (at + from); at3 < 3 * (at + to); at3 += 3) {
        red += colours[at3];
        green += colours[at3 + 1];
        blue += colours[at3 + 2];
      }
      const count = to - from;
      pixels[row + column] = pixel(red / count, green / count, blue / count);
      // The mean of two classes is none.
      const middle = at + ((from + to) >> 1);
      pixels[classes + column] = this.#shades[labels[middle] * 256 + (this.shaded ? confidence[middle] : 255)];
    }
  }

  // The line and sample at a place of the element, in CSS pixels; null outside either picture.
  locate(x, y) {
    if (!this.#history) return null;
    const scale = this.canvas.width / this.canvas.clientWidth;
    let column = Math.floor(x * scale);
    if (column >= this.columns + this.gap) column -= this.columns + this.gap;
    const row = Math.floor(y * scale) - this.offset;
    if (column < 0 || column >= this.columns || row < 0) return null;
    const line = this.bottom - this.rows + Math.floor(row / this.lineHeight);
    const sample = (this.#from[column] + this.#to[column]) >> 1;
    return line >= 0 && line < this.bottom ? { line, sample } : null;
  }

  // Where a pixel is, in CSS pixels: {left, right, y}; null where it is out of sight.
  place({ line, sample }) {
    if (!this.#history || line < this.bottom - this.rows || line >= this.bottom) return null;
    const scale = this.canvas.clientWidth / this.canvas.width;
    const column = Math.floor(((sample + 0.5) * this.columns) / this.#history.samples);
    const row = this.offset + (line - this.bottom + this.rows + 0.5) * this.lineHeight;
    return { left: column * scale, right: (column + this.columns + this.gap) * scale, y: row * scale };
  }
}

function pixel(red, green, blue) {
  return (0xff000000 | (blue << 16) | (green << 8) | red) >>> 0;
}
