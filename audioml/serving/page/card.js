// The model's card.

import { fold, showFields } from "./answer.js";
import { make, number, percent, words } from "./dom.js";

const MOST_LABELS = 24;

const date = text => new Date(text).toISOString().slice(0, 16).replace("T", " ") + " UTC";

export const chips = card =>
  [`version ${card.version}`, ...(card.aliases ?? []), card.task].filter(Boolean).map(text => make("li", {}, text));

/** Return the elements that show a card; what the server does not say is left out. */
export function showCard(card) {
  const { headline, labels = [], metrics = {}, lineage = {} } = card;
  const overall = Object.entries(metrics).filter(([name]) => !name.includes("/"));
  const single = Object.entries(metrics).filter(([name]) => name.includes("/"));
  const hears = [
    card.sample_rate && `${number(card.sample_rate / 1000)} kHz`,
    card.window_s ? `windows of ${number(card.window_s)} s` : card.sample_rate && "whole clips",
  ].filter(Boolean);
  const facts = [
    ["labels", labels.length > MOST_LABELS ? number(labels.length) : labels.join(", ")],
    ["hears", hears.join(", ")],
    ["features", card.features],
    ["network", card.network],
    ["trained", card.trained && date(card.trained)],
    ["registered", card.registered && date(card.registered)],
    ["withdrawn", card.withdrawn && describeWithdrawn(card.withdrawn)],
  ].filter(([, value]) => value);
  return [
    headline && showHeadline(headline),
    facts.length ? showFields(facts) : null,
    labels.length > MOST_LABELS ? fold(`All ${number(labels.length)} labels`, make("p", {}, labels.join(", "))) : null,
    overall.length ? fold("All metrics of the test set", showFields(overall)) : null,
    single.length ? fold("Metrics by label", showFields(single)) : null,
    Object.keys(lineage).length ? fold("Made from", showFields(describeLineage(lineage))) : null,
  ].filter(Boolean);
}

function showHeadline({ metric, value, low, high, n, confidence }) {
  const isShare = Math.max(value, high ?? value) <= 1;
  const write = isShare ? percent : number;
  const parts = [make("p", { className: "headline" }, make("b", {}, write(value)), make("span", {}, words(metric)))];
  if (low !== null && high !== null) {
    if (isShare) {
      const span = make("i");
      span.style.left = `${100 * low}%`;
      span.style.right = `${100 * (1 - high)}%`;
      parts.push(make("div", { className: "span", ariaHidden: "true" }, span));
    }
    const level = confidence ? `${number(100 * confidence)} % interval ` : "interval ";
    const clips = n ? `, ${number(n)} test clips` : "";
    parts.push(make("p", { className: "quiet" }, `${level}${write(low)} to ${write(high)}${clips}`));
  }
  return make("div", {}, parts);
}

function describeWithdrawn({ recordings, train, time, reason }) {
  return `${number(recordings)} recordings behind it, ${number(train)} of them trained on (${date(time)}: ${reason})`;
}

function describeLineage(lineage) {
  const { run_id: run, run_name: runName, dataset, dataset_digest: digest, clips, hours, git_commit: commit } = lineage;
  return [
    ["run", [runName, run].filter(Boolean).join(", ")],
    ["data set", [dataset, clips && `${number(clips)} clips`, hours && `${number(hours)} h`].filter(Boolean).join(", ")],
    ["data digest", digest],
    ["git commit", commit && commit + (lineage.git_changed ? ", with changes" : "")],
    ["branch", lineage.git_branch],
    ["audioml", lineage.audioml_version],
    ["package", lineage.package_digest],
  ].filter(([, value]) => value);
}
