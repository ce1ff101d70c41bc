// An answer as people read it, whatever the task: by the fields that it has.

import { make, number, percent, seconds, words } from "./dom.js";

const SHOWN_BARS = 5;
// What the foot, the lanes or the caption of the picture says.
const ASIDE = new Set([
  "model", "request_id", "timing_ms", "duration_s", "type", "utterance", "start_s", "end_s", "heard_s",
]);

/** The answer in a few words, for lists and for those who listen. */
export function summarize(answer) {
  if (answer.label !== undefined) return String(answer.label);
  if (answer.text !== undefined) return answer.text || "(nothing said)";
  if (answer.tags) return answer.tags.join(", ") || "(no tag)";
  if (answer.events) return answer.events.map(event => event.label).join(", ") || "(no event)";
  if (answer.speaker !== undefined) return String(answer.speaker);
  const [name, value] = Object.entries(answer).find(([key]) => !ASIDE.has(key)) ?? ["answer", "none"];
  return `${words(name)}: ${typeof value === "object" ? JSON.stringify(value) : value}`;
}

/** How sure the model is, as text; empty where it does not say. */
export function confidence(answer) {
  if (answer.similarity !== undefined) return `similarity ${number(answer.similarity)}`;
  const share = answer.probability ?? answer.confidence;
  return share === undefined ? "" : percent(share);
}

/** Return the elements that show an answer. */
export function showAnswer(answer) {
  const { label, nearest, probability, probabilities, text, confidence: sure, words: spoken, phonemes } = answer;
  const { tags, events, alarms, speaker, similarity, embedding, ...others } = answer;
  const known = ["label", "nearest", "probability", "probabilities", "text", "confidence", "words", "phonemes"];
  const rest = Object.entries(others).filter(([key]) => !ASIDE.has(key) && !known.includes(key));
  return [
    label !== undefined && showLabel(label, probability),
    nearest !== undefined && nearest !== label && make("p", { className: "quiet" }, `Nearest label: ${nearest}`),
    text !== undefined && make("p", { className: "text" }, text || "(nothing said)"),
    phonemes !== undefined && make("p", { className: "quiet", lang: "und-fonipa" }, phonemes),
    tags && showTags(tags),
    events && make("p", { className: "what" }, events.length === 1 ? "1 event" : `${events.length} events`),
    speaker !== undefined && make("p", { className: "what" }, String(speaker)),
    similarity !== undefined &&
      make("p", { className: "quiet" }, `Nearest of the speakers in training, similarity ${number(similarity)}`),
    sure !== undefined && make("p", { className: "quiet" }, `Confidence ${percent(sure)}`),
    probabilities && showBars(probabilities, tags ?? [nearest ?? label]),
    events?.length ? showTable("Events", ["label", "onset_s", "offset_s", "confidence"], events) : null,
    alarms?.length ? showTable("Alarms", ["label", "time_s", "confidence"], alarms) : null,
    spoken?.length ? fold("Words with times", showTable("", ["word", "onset_s", "offset_s", "confidence"], spoken)) : null,
    embedding && fold(`Embedding, ${embedding.length} numbers`, make("p", { className: "mono" }, embedding.join(" "))),
    rest.length && showFields(rest),
  ].filter(Boolean);
}

/** Return one line: who answered, how fast, under which request id. */
export function showFoot(answer, roundTripMs) {
  const { model, request_id: requestId, timing_ms: timing, duration_s: duration } = answer;
  const parts = Object.entries(timing ?? {}).map(([name, ms]) => `${words(name)} ${number(ms)} ms`);
  const times = roundTripMs === undefined ? parts : [...parts, `with the network ${Math.round(roundTripMs)} ms`];
  return make(
    "p",
    { className: "foot" },
    model && make("span", {}, `${model.name} version ${model.version}`),
    duration !== undefined && make("span", {}, `${seconds(duration)} of audio`),
    times.length && make("span", {}, times.join(", ")),
    requestId && make("span", { className: "mono" }, `request ${requestId}`),
  );
}

/** Return lanes along time for words or events, over so many seconds. */
export function showLanes(answer, durationS) {
  const spans = answer.words ?? answer.events ?? [];
  const names = answer.events ? [...new Set(spans.map(span => span.label))] : [""];
  if (!spans.length || !durationS) return [];
  return names.map(name => {
    const inside = spans.filter(span => !answer.events || span.label === name);
    const blocks = inside.map(span => {
      const block = make("span", { className: "block" }, span.word ?? span.label);
      block.title = `${span.word ?? span.label}, ${seconds(span.onset_s)} to ${seconds(span.offset_s)}`;
      block.style.left = `${(100 * span.onset_s) / durationS}%`;
      block.style.width = `${(100 * (Math.min(span.offset_s, durationS) - span.onset_s)) / durationS}%`;
      return block;
    });
    return make("div", { className: "lane" }, blocks);
  });
}

function showLabel(label, probability) {
  const sure = probability === undefined ? null : make("small", { className: "quiet" }, percent(probability));
  return make("p", { className: "what" }, `${label} `, sure);
}

function showTags(tags) {
  if (!tags.length) return make("p", { className: "what" }, "No tag");
  return make("ul", { className: "tags", ariaLabel: "Tags" }, tags.map(tag => make("li", {}, tag)));
}

function showBars(probabilities, best) {
  // Of keys that are numbers, JavaScript forgets the order.
  const all = Object.entries(probabilities).sort(([, one], [, other]) => other - one);
  const row = ([label, share]) => {
    const bar = make("i");
    bar.style.width = `${100 * share}%`;
    return make(
      "li",
      { className: best.includes(label) ? "best" : "" },
      make("span", { className: "label" }, label),
      make("span", { className: "bar", ariaHidden: "true" }, bar),
      make("span", { className: "number" }, percent(share)),
    );
  };
  const list = rows => make("ul", { className: "bars", ariaLabel: "Probabilities" }, rows.map(row));
  const top = list(all.slice(0, SHOWN_BARS));
  if (all.length <= SHOWN_BARS) return top;
  return make("div", {}, top, fold(`${all.length - SHOWN_BARS} more labels`, list(all.slice(SHOWN_BARS))));
}

function showTable(title, columns, rows) {
  const cell = value => (typeof value === "number" ? number(value) : String(value ?? ""));
  const head = make("tr", {}, columns.map(column => make("th", { scope: "col" }, words(column))));
  const body = rows.map(row => make("tr", {}, columns.map(column => make("td", {}, cell(row[column])))));
  const caption = title ? make("caption", { className: "hidden" }, title) : null;
  return make("div", { className: "scroll" }, make("table", {}, caption, make("thead", {}, head), make("tbody", {}, body)));
}

export function showFields(entries) {
  const text = value => (typeof value === "number" ? number(value) : typeof value === "string" ? value : JSON.stringify(value));
  return make("dl", {}, entries.map(([key, value]) => [make("dt", {}, words(key)), make("dd", {}, text(value))]));
}

export function fold(title, ...children) {
  return make("details", {}, make("summary", {}, title), ...children);
}
