// Columns of a picture of sound: the range of the samples, and their mel spectrum in dB.

const BANDS = 96;
const WINDOW_S = 0.03;
const FLOOR_DB = -120;

const toMel = hz => 2595 * Math.log10(1 + hz / 700);
const toHz = mel => 700 * (10 ** (mel / 2595) - 1);

/** Where a frequency lies between 0 Hz and the highest one, on the mel scale, from 0 to 1. */
export const melPosition = (hz, maxHz) => toMel(hz) / toMel(maxHz);

/** Replace re + i·im, both of a length that is a power of two, by their Fourier transform (Cooley and Tukey 1965). */
export function transform(re, im) {
  const n = re.length;
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [re[i], re[j]] = [re[j], re[i]];
      [im[i], im[j]] = [im[j], im[i]];
    }
  }
  for (let size = 2; size <= n; size <<= 1) {
    const half = size >> 1;
    for (let k = 0; k < half; k++) {
      const cos = Math.cos((-2 * Math.PI * k) / size);
      const sin = Math.sin((-2 * Math.PI * k) / size);
      for (let a = k; a < n; a += size) {
        const b = a + half;
        const x = re[b] * cos - im[b] * sin;
        const y = re[b] * sin + im[b] * cos;
        re[b] = re[a] - x;
        im[b] = im[a] - y;
        re[a] += x;
        im[a] += y;
      }
    }
  }
}

/** Samples as they come, and a column for each hop of them. */
export class Track {
  /** @param rate in Hz; @param maxHz upper edge of the picture; @param hopS seconds from column to column. */
  constructor(rate, maxHz, hopS) {
    this.rate = rate;
    this.maxHz = Math.min(maxHz, rate / 2);
    this.hop = Math.max(1, Math.round(hopS * rate));
    this.hopS = this.hop / rate;
    this.columns = [];
    this.samples = new Float32Array(0);
    this.length = 0;
    const n = 2 ** Math.ceil(Math.log2(WINDOW_S * rate));
    this.window = Float64Array.from({ length: n }, (_, i) => (0.5 - 0.5 * Math.cos((2 * Math.PI * i) / n)) / n);
    this.re = new Float64Array(n);
    this.im = new Float64Array(n);
    this.bands = this.#triangles(n);
  }

  /** Return the whole of a recording, with at most so many columns. */
  static of(samples, rate, maxHz, maxColumns = 1200) {
    const track = new Track(rate, maxHz, Math.max(0.005, samples.length / rate / maxColumns));
    track.samples = samples;
    track.length = samples.length;
    track.finish();
    return track;
  }

  get durationS() {
    return this.length / this.rate;
  }

  /** The lowest and the highest sample from one time to another: of columns, where these are shorter than that. */
  range(fromS, toS) {
    let low = Infinity;
    let high = -Infinity;
    const note = (least, most) => {
      low = Math.min(low, least);
      high = Math.max(high, most);
    };
    if (toS - fromS > 2 * this.hopS) {
      const columns = this.columns.slice(Math.floor(fromS / this.hopS), Math.ceil(toS / this.hopS));
      columns.forEach(column => note(column.low, column.high));
    } else {
      // One sample more on each side, so that what is drawn hangs together.
      const end = Math.min(this.length, Math.ceil(toS * this.rate) + 1);
      for (let i = Math.max(0, Math.floor(fromS * this.rate)); i < end; i++) note(this.samples[i], this.samples[i]);
    }
    return { low, high };
  }

  /** Append samples, Float32Array. */
  push(block) {
    if (this.length + block.length > this.samples.length) {
      const larger = new Float32Array(Math.max(2 * this.samples.length, this.rate * 8, this.length + block.length));
      larger.set(this.samples.subarray(0, this.length));
      this.samples = larger;
    }
    this.samples.set(block, this.length);
    this.length += block.length;
    this.#measure(this.length - this.window.length / 2);
  }

  /** Make the columns of the end, where less follows than a window holds. */
  finish() {
    this.samples = this.samples.subarray(0, this.length);
    this.#measure(this.length);
  }

  #measure(end) {
    for (let centre = this.columns.length * this.hop; centre < end; centre += this.hop) {
      let low = 0;
      let high = 0;
      for (let i = centre; i < Math.min(centre + this.hop, this.length); i++) {
        low = Math.min(low, this.samples[i]);
        high = Math.max(high, this.samples[i]);
      }
      this.columns.push({ low, high, levels: this.#spectrum(centre) });
    }
  }

  #spectrum(centre) {
    const n = this.window.length;
    const start = centre - n / 2;
    for (let i = 0; i < n; i++) {
      const at = start + i;
      this.re[i] = at >= 0 && at < this.length ? this.samples[at] * this.window[i] : 0;
    }
    this.im.fill(0);
    transform(this.re, this.im);
    return Float32Array.from(this.bands, ({ first, weights }) => {
      let power = 0;
      weights.forEach((weight, i) => { power += weight * (this.re[first + i] ** 2 + this.im[first + i] ** 2); });
      return Math.max(FLOOR_DB, 10 * Math.log10(power + 1e-20));
    });
  }

  /** Triangles on the mel scale, at least as wide as the lines of the transform are apart. */
  #triangles(n) {
    const top = toMel(this.maxHz);
    const line = hz => (hz * n) / this.rate;
    return Array.from({ length: BANDS }, (_, band) => {
      const centre = line(toHz((top * (band + 0.5)) / BANDS));
      const reach = Math.max(1, line(toHz((top * (band + 1.5)) / BANDS)) - centre);
      const first = Math.max(0, Math.ceil(centre - reach));
      const last = Math.min(n / 2, Math.floor(centre + reach));
      const weights = Array.from({ length: last - first + 1 }, (_, i) => 1 - Math.abs(first + i - centre) / reach);
      const sum = weights.reduce((a, b) => a + b, 0) || 1;
      return { first, weights: weights.map(weight => weight / sum) };
    });
  }
}
