// The microphone, as blocks of 16-bit mono samples at the rate of the sound card.

const PROBLEMS = {
  NotAllowedError: "The browser does not give this page the microphone. Allow it in the address bar, then try again.",
  NotFoundError: "No microphone was found. Connect one, then try again.",
  NotReadableError: "The microphone cannot be opened. Does another program use it?",
};

/** Why there is no microphone, in words; an empty string where there may be one. */
export function whyNoMicrophone() {
  if (!isSecureContext) return "Browsers give the microphone only to pages at https:// or on this machine.";
  return navigator.mediaDevices?.getUserMedia && window.AudioWorkletNode ? "" : "This browser cannot record.";
}

/** Open the microphone and call `listen` with each block, Int16Array. Returns its rate and how to stop it. */
export async function openMicrophone(listen) {
  const plain = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  let source;
  try {
    source = await navigator.mediaDevices.getUserMedia({ audio: plain });
  } catch (error) {
    throw new Error(PROBLEMS[error.name] ?? `The microphone cannot be opened: ${error.message}`);
  }
  const context = new AudioContext();
  await context.audioWorklet.addModule(new URL("worklet.js", import.meta.url));
  const capture = new AudioWorkletNode(context, "capture", {
    numberOfOutputs: 0,
    channelCount: 1,
    channelCountMode: "explicit",
  });
  let drained;
  const isDrained = new Promise(resolve => { drained = resolve; });
  let isStopping = false;
  capture.port.onmessage = ({ data }) => {
    if (data.length) listen(data);
    if (isStopping) drained();
  };
  context.createMediaStreamSource(source).connect(capture);
  await context.resume();

  async function stop() {
    source.getTracks().forEach(track => track.stop());
    isStopping = true;
    capture.port.postMessage("rest");
    await isDrained;
    await context.close();
  }

  return { rate: context.sampleRate, stop };
}
