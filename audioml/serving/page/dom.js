// Elements of the page, made without markup: what a server says is always text.

export const find = id => document.getElementById(id);

/** Return an element with properties, and children (elements or text; null and false are left out). */
export function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.flat(Infinity).filter(child => ![null, undefined, false, ""].includes(child)));
  return element;
}

/** A share as people read it; only all of it is 100 %. */
export const percent = share => `${share === 1 ? 100 : Math.min(99.9, 100 * share).toFixed(1)}\u00a0%`;

export const seconds = time => `${time.toFixed(time < 10 ? 2 : 1)} s`;

/** A number as people read it: four digits that count, thousands apart. */
export function number(value) {
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return Math.abs(value) >= 0.001 && Math.abs(value) < 1e6 ? String(+value.toPrecision(4)) : value.toExponential(2);
}

/** A key of JSON in words: `duration_s` is "duration (s)". */
export function words(key) {
  return key.replace(/_(s|ms|db|hz)$/i, (_, unit) => ` (${{ db: "dB", hz: "Hz" }[unit] ?? unit})`).replaceAll("_", " ");
}
