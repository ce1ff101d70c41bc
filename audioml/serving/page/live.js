// Recording: live over a stream where the server has one, else a WAV file that is sent in the end.

import { openMicrophone, whyNoMicrophone } from "./microphone.js";
import { ServerError, Stream } from "./server.js";
import { encodeWav } from "./sound.js";
import { Track } from "./spectrum.js";

const HOP_S = 0.02;
const LONGEST_S = 300;

/** The button that records. `view` is told: start, move, partial, final, stop, done, upload, fail. */
export class Live {
  windowS = 6;
  isOn = false;

  constructor(button, view) {
    Object.assign(this, { button, view });
    button.addEventListener("click", () => (this.isOn ? this.stop() : this.start()));
  }

  /** Say why where nothing can be recorded. `card` returns the model's card, once it is there. */
  prepare(card) {
    this.card = card;
    const why = whyNoMicrophone();
    this.button.disabled = why !== "";
    this.button.title = why;
  }

  async start() {
    this.isOn = true;
    this.button.disabled = true;
    this.#label("Stop");
    const rateOf = this.card().sample_rate;
    this.blocks = [];
    this.track = this.stream = this.whole = null;
    try {
      this.microphone = await openMicrophone(block => this.#hear(block));
    } catch (error) {
      this.isOn = false;
      this.#label("Record");
      return this.view.fail(new ServerError(0, { reason: "microphone", detail: error.message }));
    } finally {
      this.button.disabled = false;
    }
    const { rate } = this.microphone;
    this.track = new Track(rate, rateOf ? rateOf / 2 : rate / 2, HOP_S);
    this.view.start(this.track);
    if (this.card().streams) this.#open(rate);
    this.#draw();
  }

  #open(rate) {
    let request = {};
    const tell = answer => ({ ...request, ...answer });
    this.stream = new Stream(rate, {
      ready: message => { request = { request_id: message.request_id, model: message.model }; },
      partial: message => this.view.partial(message),
      final: message => this.view.final(tell(message)),
      end: () => this.view.done(),
      error: error => {
        if (this.isOn) this.stop();
        this.view.fail(error);
      },
      refused: () => {
        this.stream = null;
        if (this.whole) this.#upload();
      },
    });
  }

  #hear(block) {
    if (!this.track) return;
    this.blocks.push(block);
    this.track.push(Float32Array.from(block, sample => sample / 32768));
    this.stream?.send(block);
    if (this.isOn && this.track.durationS >= LONGEST_S) this.stop();
  }

  #draw() {
    if (!this.isOn) return;
    this.view.move(this.track);
    requestAnimationFrame(() => this.#draw());
  }

  async stop() {
    this.isOn = false;
    this.#label("Record");
    this.button.disabled = true;
    await this.microphone.stop();
    this.button.disabled = false;
    this.track.finish();
    const { track } = this;
    this.whole = Track.of(track.samples, track.rate, track.maxHz);
    this.view.stop(this.whole);
    if (this.stream) this.stream.end();
    else this.#upload();
  }

  #upload() {
    this.view.upload(encodeWav(this.blocks, this.track.rate), this.whole);
  }

  #label(text) {
    this.button.querySelector("span").textContent = text;
    this.button.ariaPressed = String(this.isOn);
  }
}
