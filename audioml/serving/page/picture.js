// Draws a track: the waveform, below it the spectrogram, with axes in seconds and Hz.

import { melPosition } from "./spectrum.js";

// As wide as the padding of the lanes below.
const LEFT = 52;
const RIGHT = 8;
const BOTTOM = 22;
const WAVE_SHARE = 0.27;
const GAP = 8;
const RANGE_DB = 70;
const QUIETEST_PEAK = 0.05;
const TICKS_HZ = [125, 250, 500, 1000, 2000, 4000, 8000, 16000];
const STEPS_S = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600];
// matplotlib's magma (Smith and van der Walt, CC0), every sixteenth of it.
const MAGMA = [
  "000004", "0a0822", "1d1147", "36106b", "51127c", "6a1c81", "832681", "9c2e7f", "b73779",
  "d0416f", "e75263", "f56b5c", "fc8961", "fea772", "fec488", "fde2a3", "fcfdbf",
].map(hex => [0, 2, 4].map(i => parseInt(hex.slice(i, i + 2), 16)));
const COLOURS = Array.from({ length: 256 }, (_, i) => {
  const place = (i / 255) * (MAGMA.length - 1);
  const below = Math.min(MAGMA.length - 2, Math.floor(place));
  return MAGMA[below].map((value, c) => value + (place - below) * (MAGMA[below + 1][c] - value));
});

export class Picture {
  constructor(canvas) {
    this.canvas = canvas;
    this.scratch = document.createElement("canvas");
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  /** Show a track from one time to another, in seconds. */
  show(track, fromS, toS) {
    Object.assign(this, { track, fromS, toS });
    this.draw();
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!this.track || !width) return;
    const scale = devicePixelRatio || 1;
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    const pen = this.canvas.getContext("2d");
    pen.scale(scale, scale);
    const style = getComputedStyle(this.canvas);
    this.colour = name => style.getPropertyValue(name);
    pen.font = `12px ${style.fontFamily}`;
    const waveHeight = Math.round((height - BOTTOM) * WAVE_SHARE);
    const area = { x: LEFT, y: waveHeight + GAP, width: width - LEFT - RIGHT, height: height - BOTTOM - waveHeight - GAP };
    const first = Math.max(0, Math.floor(this.fromS / this.track.hopS));
    const columns = this.track.columns.slice(first, Math.ceil(this.toS / this.track.hopS));
    this.#drawWave(pen, columns, { ...area, y: 0, height: waveHeight });
    this.#drawSpectrogram(pen, columns, area);
    this.#drawAxes(pen, area);
  }

  /** Where a time is on the canvas, in CSS pixels. */
  xOf(time) {
    const share = this.track ? (time - this.fromS) / (this.toS - this.fromS) : 0;
    return LEFT + share * (this.canvas.clientWidth - LEFT - RIGHT);
  }

  /** Which time is at a place on the canvas, in seconds. */
  timeAt(x) {
    return this.fromS + ((x - LEFT) / (this.canvas.clientWidth - LEFT - RIGHT)) * (this.toS - this.fromS);
  }

  #drawWave(pen, columns, area) {
    const peak = columns.reduce((most, { low, high }) => Math.max(most, -low, high), QUIETEST_PEAK);
    const middle = area.y + area.height / 2;
    const reach = (area.height / 2 - 2) / peak;
    pen.fillStyle = this.colour("--line");
    pen.fillRect(area.x, middle - 0.5, area.width, 1);
    pen.fillStyle = this.colour("--wave");
    for (let x = 0; x < area.width; x++) {
      const { low, high } = this.track.range(this.timeAt(area.x + x), this.timeAt(area.x + x + 1));
      if (high >= low) pen.fillRect(area.x + x, middle - high * reach - 0.5, 1, Math.max(1, (high - low) * reach));
    }
  }

  #drawSpectrogram(pen, columns, area) {
    pen.fillStyle = "#000004";
    pen.fillRect(area.x, area.y, area.width, area.height);
    if (!columns.length) return;
    const bands = columns[0].levels.length;
    let loudest = -60;
    for (const { levels } of columns) for (const level of levels) if (level > loudest) loudest = level;
    const image = new ImageData(columns.length, bands);
    columns.forEach(({ levels }, x) => {
      for (let band = 0; band < bands; band++) {
        const share = Math.max(0, Math.min(1, (levels[band] - loudest + RANGE_DB) / RANGE_DB));
        const [red, green, blue] = COLOURS[Math.round(255 * share)];
        image.data.set([red, green, blue, 255], 4 * ((bands - 1 - band) * columns.length + x));
      }
    });
    Object.assign(this.scratch, { width: columns.length, height: bands });
    this.scratch.getContext("2d").putImageData(image, 0, 0);
    pen.imageSmoothingQuality = "high";
    const width = ((columns.length * this.track.hopS) / (this.toS - this.fromS)) * area.width;
    pen.drawImage(this.scratch, area.x, area.y, Math.min(area.width, width), area.height);
  }

  #drawAxes(pen, area) {
    pen.fillStyle = this.colour("--quiet");
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    let free = Infinity;
    for (const hz of TICKS_HZ.filter(tick => tick <= this.track.maxHz)) {
      const y = area.y + area.height * (1 - melPosition(hz, this.track.maxHz));
      if (free - y < 16) continue;
      free = y;
      pen.fillRect(area.x - 5, Math.min(y, area.y + area.height - 1), 4, 1);
      const text = hz < 1000 ? `${hz} Hz` : `${hz / 1000} kHz`;
      pen.fillText(text, area.x - 8, Math.max(area.y + 5, Math.min(y, area.y + area.height - 5)));
    }
    const span = this.toS - this.fromS;
    const step = STEPS_S.find(s => span / s <= area.width / 72) ?? STEPS_S.at(-1);
    pen.textBaseline = "top";
    for (let i = Math.ceil(this.fromS / step - 1e-9); i * step <= this.toS + 1e-9; i++) {
      const x = this.xOf(i * step);
      pen.fillRect(Math.min(x, area.x + area.width - 1), area.y + area.height + 1, 1, 4);
      pen.textAlign = x > area.x + area.width - 20 ? "right" : x < area.x + 20 ? "left" : "center";
      pen.fillText(formatTime(i * step, step), x, area.y + area.height + 7);
    }
  }
}

function formatTime(time, step) {
  if (step < 1) return `${time.toFixed(step < 0.1 ? 2 : 1)} s`;
  if (time < 60) return `${time} s`;
  return `${Math.floor(time / 60)}:${String(Math.round(time % 60)).padStart(2, "0")} min`;
}
