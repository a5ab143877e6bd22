// The websocket: lines come as bytes, all else as JSON. It comes back after every loss.

const MAGIC = 0x31564c48; // "HLV1", little-endian
const HEAD_BYTES = 16;
const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 8000;
const TOO_MANY_VIEWERS = 1013;

export class Connection {
  #handlers;
  #socket = null;
  #pause = FIRST_PAUSE;

  // handlers: lines(message), json(message), opened(), lost(reason in words)
  constructor(handlers) {
    this.#handlers = handlers;
    this.#connect();
  }

  ask(want) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(want));
  }

  #connect() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}/lines`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.#handlers.opened();
    socket.onmessage = ({ data }) => {
      this.#pause = FIRST_PAUSE;
      if (typeof data === "string") this.#handlers.json(JSON.parse(data));
      else this.#handlers.lines(parseLines(data));
    };
    socket.onclose = ({ code }) => {
      this.#socket = null;
      this.#handlers.lost(code === TOO_MANY_VIEWERS ? "too many viewers" : "connection lost");
      setTimeout(() => this.#connect(), this.#pause);
      this.#pause = Math.min(2 * this.#pause, LONGEST_PAUSE);
    };
    this.#socket = socket;
  }
}

function parseLines(data) {
  const [magic, first, samples, count] = new Uint32Array(data, 0, 4);
  if (magic !== MAGIC) throw new Error("a message of another version: load the page again");
  const pixels = samples * count;
  return {
    first,
    samples,
    count,
    bytes: data.byteLength,
    colours: new Uint8Array(data, HEAD_BYTES, 3 * pixels),
    labels: new Uint8Array(data, HEAD_BYTES + 3 * pixels, pixels),
    confidence: new Uint8Array(data, HEAD_BYTES + 4 * pixels, pixels),
  };
}
