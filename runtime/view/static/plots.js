// Small drawings: the course of a number, and a spectrum. Made of SVG elements, so that text stays text.

const NAMESPACE = "http://www.w3.org/2000/svg";
const WIDTH = 320;

function element(name, attributes, text) {
  const made = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

export function short(value) {
  const size = Math.abs(value);
  if (size >= 1e5 || (size > 0 && size < 1e-3)) return value.toExponential(1);
  if (size >= 100) return value.toFixed(0);
  return size >= 10 ? value.toFixed(1) : value.toFixed(size >= 1 ? 2 : 3);
}

// The course of one number over the last minute.
export class Course {
  static POINTS = 300;

  constructor(parent, name) {
    this.values = [];
    const row = document.createElement("div");
    row.className = "strip";
    const title = document.createElement("span");
    title.textContent = name;
    const svg = element("svg", { viewBox: "0 0 100 24", preserveAspectRatio: "none", "aria-hidden": "true" });
    this.area = svg.appendChild(element("path", { class: "area" }));
    this.curve = svg.appendChild(element("path", { class: "curve", "vector-effect": "non-scaling-stroke" }));
    this.text = document.createElement("span");
    this.text.className = "value";
    row.append(title, svg, this.text);
    parent.append(row);
  }

  clear() {
    this.values = [];
    this.#draw();
    this.text.textContent = "–";
    this.text.classList.remove("bad");
  }

  // value: null where it is not known.
  add(value, text, bad = false) {
    this.values.push(value);
    if (this.values.length > Course.POINTS) this.values.shift();
    this.text.textContent = text;
    this.text.classList.toggle("bad", bad);
    this.#draw();
  }

  #draw() {
    const known = this.values.filter((value) => value !== null);
    if (known.length < 2) {
      this.curve.removeAttribute("d");
      this.area.removeAttribute("d");
      return;
    }
    const most = Math.max(...known, 1e-9) * 1.08;
    const step = 100 / (Course.POINTS - 1);
    const start = Course.POINTS - this.values.length;
    let path = "";
    let last = null;
    this.values.forEach((value, index) => {
      if (value === null) return;
      const x = ((start + index) * step).toFixed(2);
      path += `${path ? "L" : "M"}${x} ${(23 - (22 * value) / most).toFixed(2)}`;
      last = x;
    });
    this.curve.setAttribute("d", path);
    this.area.setAttribute("d", `${path}L${last} 24L${path.slice(1, path.indexOf(" "))} 24Z`);
  }
}

// values over wavelengths, or over band numbers where these are not known.
export function drawSpectrum(svg, values, wavelengths) {
  const height = 128;
  const [left, right, top, bottom] = [38, 6, 6, 18];
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${height}`);
  svg.replaceChildren();
  if (!values?.length) return;
  const places = wavelengths ?? values.map((_, band) => band);
  const [low, high] = [Math.min(...places), Math.max(...places)];
  const [least, most] = [Math.min(0, ...values), Math.max(...values)];
  const x = (place) => left + ((place - low) / (high - low || 1)) * (WIDTH - left - right);
  const y = (value) => height - bottom - ((value - least) / (most - least || 1)) * (height - top - bottom);
  svg.append(element("path", { class: "axis", d: `M${left} ${top}V${height - bottom}H${WIDTH - right}` }));
  for (const value of [least, (least + most) / 2, most]) {
    svg.append(element("text", { x: left - 4, y: y(value) + 3, "text-anchor": "end" }, short(value)));
    svg.append(element("path", { class: "axis", d: `M${left} ${y(value)}H${WIDTH - right}`, "stroke-dasharray": "2 3" }));
  }
  const unit = wavelengths ? " nm" : "";
  for (const [place, anchor] of [[low, "start"], [(low + high) / 2, "middle"], [high, "end"]]) {
    const text = anchor === "middle" && !wavelengths ? "band" : `${Math.round(place)}${unit}`;
    svg.append(element("text", { x: x(place), y: height - 4, "text-anchor": anchor }, text));
  }
  // Bands need not be in the order of their wavelengths.
  const order = values.map((_, band) => band).sort((one, other) => places[one] - places[other]);
  const path = order.map((band, index) => `${index ? "L" : "M"}${x(places[band]).toFixed(1)} ${y(values[band]).toFixed(1)}`);
  svg.append(element("path", { class: "curve", d: path.join("") }));
}
