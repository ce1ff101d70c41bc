// In the audio thread: what the microphone hears, as blocks of 16-bit samples.

const BLOCK = 1024;

class Capture extends AudioWorkletProcessor {
  block = new Int16Array(BLOCK);
  filled = 0;

  constructor() {
    super();
    this.port.onmessage = () => this.#post();
  }

  process([[samples]]) {
    for (const sample of samples ?? []) {
      this.block[this.filled++] = Math.max(-32768, Math.min(32767, Math.round(32768 * sample)));
      if (this.filled === BLOCK) this.#post();
    }
    return true;
  }

  #post() {
    const block = this.block.slice(0, this.filled);
    this.filled = 0;
    this.port.postMessage(block, [block.buffer]);
  }
}

registerProcessor("capture", Capture);
