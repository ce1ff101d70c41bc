// Sound in the browser: files to samples, samples to a WAV file, and playing them.

/** Return mono samples of a file at a rate, Float32Array; null where the browser knows no such format. */
export async function decode(file, rate) {
  try {
    const buffer = await new OfflineAudioContext(1, 1, rate).decodeAudioData(await file.arrayBuffer());
    const mono = new Float32Array(buffer.length);
    for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
      buffer.getChannelData(channel).forEach((sample, i) => { mono[i] += sample / buffer.numberOfChannels; });
    }
    return mono;
  } catch {
    return null;
  }
}

/** Return 16-bit mono samples (a list of Int16Array) as a WAV file. */
export function encodeWav(blocks, rate) {
  const bytes = 2 * blocks.reduce((n, block) => n + block.length, 0);
  const header = new DataView(new ArrayBuffer(44));
  const text = (offset, name) => [...name].forEach((c, i) => header.setUint8(offset + i, c.charCodeAt(0)));
  text(0, "RIFF");
  header.setUint32(4, 36 + bytes, true);
  text(8, "WAVEfmt ");
  header.setUint32(16, 16, true);
  header.setUint16(20, 1, true);
  header.setUint16(22, 1, true);
  header.setUint32(24, rate, true);
  header.setUint32(28, 2 * rate, true);
  header.setUint16(32, 2, true);
  header.setUint16(34, 16, true);
  text(36, "data");
  header.setUint32(40, bytes, true);
  return new Blob([header, ...blocks], { type: "audio/wav" });
}

/** Plays samples from any place; `onMove(time, isPlaying)` is called as it goes. */
export class Player {
  constructor(onMove) {
    this.onMove = onMove;
    this.time = this.duration = 0;
    this.source = null;
  }

  load(samples, rate) {
    this.pause();
    Object.assign(this, { samples, rate, duration: samples.length / rate });
    this.seek(0);
  }

  get isPlaying() {
    return this.source !== null;
  }

  async play() {
    this.context ??= new AudioContext();
    await this.context.resume();
    if (this.time >= this.duration - 0.01) this.time = 0;
    const buffer = this.context.createBuffer(1, Math.max(1, this.samples.length), this.rate);
    buffer.copyToChannel(this.samples, 0);
    const source = this.context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.context.destination);
    source.onended = () => {
      if (this.source === source) this.#stopAt(this.duration);
    };
    source.start(0, this.time);
    this.source = source;
    this.began = this.context.currentTime - this.time;
    this.#follow();
  }

  #follow() {
    if (!this.source) return;
    this.time = Math.min(this.duration, this.context.currentTime - this.began);
    this.onMove(this.time, true);
    requestAnimationFrame(() => this.#follow());
  }

  pause() {
    if (this.source) this.#stopAt(this.time);
  }

  #stopAt(time) {
    const source = this.source;
    this.source = null;
    source.stop();
    this.time = time;
    this.onMove(time, false);
  }

  seek(time) {
    const wasPlaying = this.isPlaying;
    this.pause();
    this.time = Math.max(0, Math.min(this.duration, time));
    this.onMove(this.time, false);
    if (wasPlaying) this.play();
  }
}
