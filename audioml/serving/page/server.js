// What is asked of the server: the card, answers, a live stream; with the access token where one is given.

const TOKEN = "audioml.token";
const HEADLINES = {
  empty: "The recording is empty",
  unreadable: "This is no audio that the server can read",
  truncated: "The recording breaks off",
  too_large: "The file is too large for this server",
  no_file: "There is no recording in what was sent",
  offline: "The server cannot be reached",
  disconnected: "The connection ended",
  microphone: "There is no microphone",
  internal: "The server failed",
};
const BY_STATUS = {
  401: "The server asks for an access token",
  403: "This token may not ask here",
  404: "The server does not offer this",
  408: "The upload took too long",
  413: "The recording is too large for this server",
  422: "The server cannot use this recording",
  429: "Too many requests",
  503: "The server is busy",
  504: "The answer took too long",
};

/** What the server refused, or that it cannot be reached. */
export class ServerError extends Error {
  constructor(status, { reason = "", detail = "", request_id: requestId = "" } = {}) {
    super(detail);
    Object.assign(this, { status, reason, detail, requestId });
  }

  /** In plain words, without the detail. */
  get headline() {
    return HEADLINES[this.reason] ?? BY_STATUS[this.status] ?? "The server refused";
  }
}

export const token = () => sessionStorage.getItem(TOKEN) ?? "";

export const keepToken = value => sessionStorage.setItem(TOKEN, value);

export const forgetToken = () => sessionStorage.removeItem(TOKEN);

export const address = path => new URL(path, document.baseURI);

async function ask(path, options = {}) {
  const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
  let response;
  try {
    response = await fetch(address(path), { ...options, headers });
  } catch {
    throw new ServerError(0, { reason: "offline", detail: "Nothing answers at its address. Is it running?" });
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer) return answer;
  const detail = typeof answer?.detail === "string" ? answer.detail : `It answered with status ${response.status}.`;
  const requestId = answer?.request_id ?? response.headers.get("X-Request-ID") ?? "";
  const wait = response.headers.get("Retry-After");
  const advice = wait ? ` Try again in ${wait} s.` : "";
  throw new ServerError(response.status, { ...answer, detail: detail + advice, request_id: requestId });
}

export const fetchCard = () => ask("model");

/** Return the answer to a file; raises ServerError. */
export async function predict(file, name) {
  const form = new FormData();
  form.append("file", file, name);
  return ask("predict", { method: "POST", body: form });
}

/**
 * A live stream of 16-bit mono PCM. `listeners` has a function for each type of message: ready, partial, final, end,
 * error; and `refused`, called where the stream ends before it was ready: missing, full or not allowed.
 */
export class Stream {
  constructor(sampleRate, listeners) {
    const url = address(`stream?sample_rate=${sampleRate}&format=pcm16`);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(url, token() ? ["audioml", `bearer.${token()}`] : []);
    this.socket.binaryType = "arraybuffer";
    this.waiting = [];
    this.isReady = this.isOver = false;
    this.socket.onmessage = event => this.#hear(JSON.parse(event.data), listeners);
    this.socket.onclose = () => {
      if (this.isOver) return;
      this.isOver = true;
      if (!this.isReady) return listeners.refused();
      const error = { reason: "disconnected", detail: "The connection ended before the answer came." };
      listeners.error(new ServerError(0, error));
    };
  }

  #hear(message, listeners) {
    if (message.type === "error" && !this.isReady) {
      this.isOver = true;
      this.socket.close();
      return listeners.refused();
    }
    if (message.type === "ready") {
      this.isReady = true;
      this.waiting.forEach(chunk => this.socket.send(chunk));
      this.waiting = [];
    }
    if (message.type === "end" || message.type === "error") {
      this.isOver = true;
      this.socket.close();
    }
    listeners[message.type]?.(message.type === "error" ? new ServerError(0, message) : message);
  }

  /** Send samples, Int16Array; what comes before the server is ready waits. */
  send(chunk) {
    if (this.isReady && !this.isOver) this.socket.send(chunk);
    else if (!this.isOver) this.waiting.push(chunk);
  }

  /** Say that no more comes. The last answers, and `end`, are still heard. */
  end() {
    this.send(JSON.stringify({ type: "end" }));
  }
}
