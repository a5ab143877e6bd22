// The page is whole without this: it adds a readout, the same place marked in every map, and zoom.
"use strict";
(() => {
  const groups = [...document.querySelectorAll(".maps")];
  const tools = document.querySelector(".tools");
  if (!groups.length || !tools) return;
  tools.hidden = false;
  const readout = document.getElementById("readout");
  const names = new Map();
  for (const row of document.querySelectorAll(".legend tr[data-colour]")) {
    names.set(row.dataset.colour, { name: row.querySelector(".name").textContent, row });
  }
  const pixels = new Map(); // image -> its pixels, read when first pointed at

  const read = (image) => {
    if (!pixels.has(image)) {
      const canvas = document.createElement("canvas");
      canvas.width = image.naturalWidth;
      canvas.height = image.naturalHeight;
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(image, 0, 0);
      pixels.set(image, context);
    }
    return pixels.get(image);
  };

  const colourAt = (image, x, y) => {
    const column = Math.min(Math.floor(x * image.naturalWidth), image.naturalWidth - 1);
    const row = Math.min(Math.floor(y * image.naturalHeight), image.naturalHeight - 1);
    const [red, green, blue] = read(image).getImageData(column, row, 1, 1).data;
    return [red, green, blue];
  };

  const hex = (colour) => "#" + colour.map((part) => part.toString(16).padStart(2, "0")).join("");
  const ramp = [...document.querySelectorAll(".ramp rect")].map((rect) => {
    const text = rect.getAttribute("fill");
    return [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
  });

  // The value whose colour on the ramp is nearest.
  const valueOf = (colour) => {
    if (colour.every((part) => part === 0)) return "none";
    let best = 0, least = Infinity;
    for (let step = 0; step <= 220; step++) {
      const at = (step / 220) * (ramp.length - 1);
      const low = Math.min(Math.floor(at), ramp.length - 2);
      const off = [0, 1, 2].reduce((sum, part) => {
        const mixed = ramp[low][part] + (at - low) * (ramp[low + 1][part] - ramp[low][part]);
        return sum + (mixed - colour[part]) ** 2;
      }, 0);
      if (off < least) [least, best] = [off, step / 220];
    }
    return best.toFixed(2);
  };

  let zoom = 0; // index into steps
  const marks = new Map(); // frame -> its cross
  const mark = (frame, x, y) => {
    if (!marks.has(frame)) {
      const cross = document.createElement("div");
      Object.assign(cross.style, {
        position: "absolute", width: "13px", height: "13px", margin: "-7px 0 0 -7px", borderRadius: "50%",
        border: "2px solid #fff", boxShadow: "0 0 0 1.5px #000", pointerEvents: "none",
      });
      frame.append(cross);
      marks.set(frame, cross);
    }
    const image = frame.querySelector("img");
    const cross = marks.get(frame);
    cross.hidden = false;
    cross.style.left = `${x * image.clientWidth}px`;
    cross.style.top = `${y * image.clientHeight}px`;
  };

  const point = (group, x, y) => {
    if (x < 0 || x >= 1 || y < 0 || y >= 1) return;
    const sideways = group.classList.contains("sideways");
    const lines = Number(group.dataset.lines), samples = Number(group.dataset.samples);
    const line = Number(group.dataset.first) + Math.floor((sideways ? x : y) * lines);
    const sample = Math.floor((sideways ? y : x) * samples);
    const words = [`line ${line.toLocaleString("en")}, sample ${sample}`];
    for (const { row } of names.values()) row.classList.remove("here");
    for (const other of group.querySelectorAll("img")) {
      mark(other.parentElement, x, y);
      const key = other.dataset.key;
      if (key === "composite") continue;
      const colour = colourAt(other, x, y);
      if (key === "classes" || key === "truth") {
        const found = names.get(hex(colour));
        const none = key === "truth" ? "unlabelled" : "no class";
        const name = hex(colour) === "#000000" ? none : found ? found.name : "?";
        words.push(`${key === "truth" ? "truth" : "class"} ${name}`);
        if (key === "classes" && found) found.row.classList.add("here");
      } else {
        words.push(`${key} ${valueOf(colour)}`);
      }
    }
    readout.textContent = words.join(" · ");
    place = [x, y];
  };

  let place = [0.5, 0.5]; // where the readout was last, for the keys
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  for (const group of groups) {
    const frames = [...group.querySelectorAll(".frame")];
    for (const frame of frames) {
      const image = frame.querySelector("img");
      for (const kind of ["pointermove", "pointerdown"]) {
        frame.addEventListener(kind, (event) => {
          const box = image.getBoundingClientRect();
          point(group, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
        });
      }
      // Arrows alone scroll what is enlarged.
      frame.addEventListener("keydown", (event) => {
        const move = moves[event.key];
        if (!move || (zoom && !event.shiftKey)) return;
        event.preventDefault();
        const sizes = [image.naturalWidth, image.naturalHeight];
        point(group, ...sizes.map((size, axis) => {
          const pixel = Math.floor(place[axis] * size) + move[axis];
          return (Math.min(Math.max(pixel, 0), size - 1) + 0.5) / size;
        }));
      });
      frame.addEventListener("pointerleave", () => { for (const cross of marks.values()) cross.hidden = true; });
      frame.addEventListener("scroll", () => {
        for (const other of frames) {
          if (other !== frame && (other.scrollLeft !== frame.scrollLeft || other.scrollTop !== frame.scrollTop)) {
            other.scrollLeft = frame.scrollLeft;
            other.scrollTop = frame.scrollTop;
          }
        }
      });
    }
  }

  const steps = [1, 2, 4, 8];
  const out = document.getElementById("zoom-out"), larger = document.getElementById("zoom-in");
  const show = () => {
    document.getElementById("zoom").textContent = `${steps[zoom]}×`;
    out.disabled = zoom === 0;
    larger.disabled = zoom === steps.length - 1;
    for (const frame of document.querySelectorAll(".frame")) {
      const image = frame.querySelector("img");
      const [x, y] = [
        (frame.scrollLeft + frame.clientWidth / 2) / image.clientWidth,
        (frame.scrollTop + frame.clientHeight / 2) / image.clientHeight,
      ];
      if (steps[zoom] > 1 && !frame.style.height) frame.style.height = `${frame.clientHeight}px`;
      if (steps[zoom] === 1) frame.style.height = "";
      image.style.width = `${100 * steps[zoom]}%`;
      frame.scrollLeft = x * image.clientWidth - frame.clientWidth / 2;
      frame.scrollTop = y * image.clientHeight - frame.clientHeight / 2;
    }
    for (const line of document.querySelectorAll(".maps .axis")) line.style.visibility = zoom ? "hidden" : "";
    for (const cross of marks.values()) cross.hidden = true;
  };
  out.addEventListener("click", () => { zoom = Math.max(0, zoom - 1); show(); });
  larger.addEventListener("click", () => { zoom = Math.min(steps.length - 1, zoom + 1); show(); });
  show();
})();
