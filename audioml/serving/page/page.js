// The page: what people do, and what they see of it.

import { confidence, showAnswer, showFoot, showLanes, summarize } from "./answer.js";
import { chips, showCard } from "./card.js";
import { find, make, seconds } from "./dom.js";
import { Live } from "./live.js";
import { Picture } from "./picture.js";
import { address, fetchCard, forgetToken, keepToken, predict, token } from "./server.js";
import { Player, decode } from "./sound.js";
import { Track } from "./spectrum.js";

const PLAIN_RATE = 16000;

let card = {};
let again = loadCard;
let asked = 0;

const picture = new Picture(find("picture"));
const player = new Player(showTime);

// ---- the card

async function loadCard() {
  try {
    card = await fetchCard();
  } catch (error) {
    if (error.status === 401) return askForToken(loadCard);
    find("card-body").replaceChildren(...showProblem(error));
    return;
  }
  document.title = `${card.name} · audioml`;
  find("name").textContent = card.name;
  find("chips").replaceChildren(...chips(card));
  find("card-body").replaceChildren(...showCard(card));
}

// ---- access

function askForToken(retry) {
  again = retry;
  const refused = token() !== "";
  forgetToken();
  if (refused) find("access-why").textContent = "The server does not know this token. Is it written right, and still valid?";
  find("access").hidden = false;
  find("token").focus();
}

find("access").addEventListener("submit", event => {
  event.preventDefault();
  keepToken(find("token").value.trim());
  find("token").value = "";
  find("access").hidden = true;
  writeCommands();
  again();
  if (again !== loadCard) loadCard();
});

// ---- files

find("choose").addEventListener("click", () => find("file").click());
find("file").addEventListener("change", () => {
  const [file] = find("file").files;
  if (file) hear(file, file.name);
  find("file").value = "";
});

for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, event => {
    event.preventDefault();
    find("drop").classList.toggle("over", kind === "dragover");
    const file = kind === "drop" && event.dataTransfer.files[0];
    if (file && !live.isOn) hear(file, file.name);
  });
}

/** Show a file, and ask what it holds. Of several, the last one counts. */
async function hear(file, name, track) {
  const turn = ++asked;
  find("utterances").hidden = true;
  showPending();
  const began = performance.now();
  const answering = predict(file, name).then(
    answer => ({ answer, tookMs: performance.now() - began }),
    error => ({ error }),
  );
  const shown = track ?? (await trackOf(file));
  if (turn !== asked) return;
  showTrack(shown, track ? "Microphone" : name);
  const { answer, error, tookMs } = await answering;
  if (turn !== asked) return;
  if (error?.status === 401) return askForToken(() => hear(file, name, shown));
  if (error) return fail(error);
  give(answer, tookMs);
  if (shown) find("lanes").replaceChildren(...showLanes(answer, shown.durationS));
}

async function trackOf(file) {
  const rate = card.sample_rate ?? PLAIN_RATE;
  const samples = await decode(file, rate);
  return samples && Track.of(samples, rate, rate / 2);
}

function showTrack(track, name) {
  find("drop").classList.add("small");
  find("heard").hidden = false;
  find("source").textContent = name;
  find("lanes").replaceChildren();
  for (const id of ["picture", "player"]) find(id).hidden = !track;
  if (!track) {
    player.pause();
    find("cursor").hidden = true;
    find("source-facts").textContent = "cannot be drawn by this browser";
    return;
  }
  const rate = `${track.rate / 1000} kHz`;
  find("source-facts").textContent = `${seconds(track.durationS)}, ${rate}`;
  find("picture").ariaLabel = `Waveform and spectrogram of ${name}, ${seconds(track.durationS)}, up to ${track.maxHz} Hz`;
  picture.show(track, 0, Math.max(track.durationS, 0.05));
  find("seek").max = track.durationS;
  player.load(track.samples, track.rate);
}

// ---- answers

function showPending() {
  find("answer").hidden = false;
  find("answer-body").className = "provisional";
  find("answer-body").replaceChildren(make("p", { className: "quiet" }, "Listening …"));
}

function give(answer, tookMs) {
  find("answer").hidden = false;
  find("answer-body").className = "";
  find("answer-body").replaceChildren(...showAnswer(answer), showFoot(answer, tookMs));
  announce(answer);
}

function announce(answer) {
  find("said").textContent = ["Answer:", summarize(answer), confidence(answer)].filter(Boolean).join(" ");
}

function showProblem(error) {
  const body = make("div", { className: "problem" }, make("h3", {}, error.headline), make("p", {}, error.detail));
  return [body, error.requestId && make("p", { className: "foot mono" }, `request ${error.requestId}`)].filter(Boolean);
}

function fail(error) {
  find("answer").hidden = false;
  find("answer-body").className = "";
  find("answer-body").replaceChildren(...showProblem(error));
  find("said").textContent = `${error.headline}. ${error.detail}`;
}

// ---- the microphone

const live = new Live(find("record"), {
  start(track) {
    asked++;
    showTrack(null, "Microphone");
    find("picture").hidden = false;
    find("source-facts").textContent = "";
    find("utterance-list").replaceChildren();
    find("utterances").hidden = true;
    showPending();
    for (const id of ["choose", "file"]) find(id).disabled = true;
    find("picture").ariaLabel = "Waveform and spectrogram of the microphone, as it is heard";
    picture.show(track, 0, live.windowS);
  },
  move(track) {
    const from = Math.max(0, track.durationS - live.windowS);
    picture.show(track, from, from + live.windowS);
    find("source-facts").textContent = seconds(track.durationS);
  },
  partial(answer) {
    find("answer-body").className = "provisional";
    find("answer-body").replaceChildren(...showAnswer(answer));
  },
  final(answer) {
    give(answer);
    find("utterances").hidden = false;
    find("utterance-list").prepend(
      make(
        "li",
        {},
        make("time", { className: "quiet" }, `${answer.start_s.toFixed(1)} to ${seconds(answer.end_s)}`),
        make("strong", {}, summarize(answer)),
        make("span", { className: "number" }, confidence(answer)),
      ),
    );
  },
  stop(track) {
    for (const id of ["choose", "file"]) find(id).disabled = false;
    if (track) showTrack(track, "Microphone");
  },
  done() {
    if (!find("utterance-list").children.length) {
      find("answer-body").replaceChildren(make("p", { className: "quiet" }, "Nothing was said."));
      find("said").textContent = "Nothing was said.";
    }
  },
  upload: (wav, track) => hear(wav, "microphone.wav", track),
  fail,
});
live.prepare(() => card);

// ---- playing

function showTime(time, isPlaying) {
  find("seek").value = time;
  find("clock").textContent = seconds(time);
  find("play").textContent = isPlaying ? "Pause" : "Play";
  find("play").ariaPressed = String(isPlaying);
  find("cursor").hidden = live.isOn || !player.duration;
  find("cursor").style.left = `${picture.xOf(time)}px`;
}

find("play").addEventListener("click", () => (player.isPlaying ? player.pause() : player.play()));
find("seek").addEventListener("input", () => player.seek(Number(find("seek").value)));
find("picture").addEventListener("click", event => {
  if (!live.isOn) player.seek(picture.timeAt(event.offsetX));
});

// ---- commands

function writeCommands() {
  const url = address("predict").href;
  const access = token() ? " -H \"Authorization: Bearer $TOKEN\"" : "";
  find("curl").textContent =
    `curl -F file=@clip.wav${access} ${url}\n\ncurl --data-binary @clip.wav -H 'Content-Type: audio/wav'${access} ${url}`;
}

find("copy").addEventListener("click", async () => {
  await navigator.clipboard?.writeText(find("curl").textContent);
  find("copy").textContent = navigator.clipboard ? "Copied" : "Select and copy by hand";
});

writeCommands();
loadCard();
