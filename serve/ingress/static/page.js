// Sends a recording to the endpoint that this page is from, and shows the words as they arrive.

const $ = (id) => document.getElementById(id);
const audio = $("audio");
const transcript = $("transcript");
const keptKey = "whisperfleet-key";

let file = null; // what is to be transcribed
let running = null; // AbortController of the request under way
let recorder = null;
let segments = []; // {start, end, text}: what subtitles are made of
let text = "";
let words = []; // {start, node}: seconds, and the element that shows the word
let now = -1; // index of the word that is being played
let current = 0; // index of the word that the keyboard is at
let models = []; // as /v1/models lists them
const languages = [...$("language").options]; // the first is none of them
const tasks = [...$("task").options];

// ---- what the endpoint says

class Refused extends Error {}

async function ask(path, options = {}) {
  const key = $("key").value.trim();
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const response = await fetch(path, { ...options, headers });
  if (response.ok) return response;
  if (response.status === 401) $("access").open = true;
  throw new Refused(await refusal(response));
}

async function refusal(response) {
  let message = `${response.status} ${response.statusText}`;
  try {
    message = (await response.json()).error.message;
  } catch {
    // a gateway in front of the endpoint answers in its own way
  }
  const wait = Number(response.headers.get("Retry-After"));
  return wait > 0 ? `${message}. Try again in ${wait === 1 ? "a second" : `${wait} seconds`}.` : message;
}

// Yields the content of each server-sent event.
async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").filter((line) => line.startsWith("data:"));
      if (data.length) yield JSON.parse(data.map((line) => line.slice(5)).join("\n"));
    }
  }
}

async function loadModels() {
  try {
    const { data } = await (await ask("v1/models")).json();
    const chosen = $("model").value;
    models = data;
    $("model").replaceChildren(...data.map(({ id }) => new Option(id, id, false, id === chosen)));
    offer();
    report("");
  } catch (error) {
    report(error);
  }
  enable();
}

// Offers what the chosen model can do: of one that says nothing, all but keywords.
function offer() {
  const model = models.find(({ id }) => id === $("model").value) ?? {};
  const can = (ability) => !model.cannot?.includes(ability);
  const known = model.languages ?? [];
  const spoken = languages.slice(1).filter(({ value }) => !known.length || known.includes(value));
  languages[0].text = can("language detection") ? "Detect" : "Not named";
  refill("language", spoken.length === 1 ? spoken : [languages[0], ...spoken]);
  refill("task", can("translation") ? tasks : tasks.slice(0, 1));
  $("keywords").parentNode.hidden = !model.cannot || !can("keywords");
}

function refill(name, options) {
  const before = $(name).value;
  $(name).replaceChildren(...options);
  $(name).value = (options.find(({ value }) => value === before) ?? options[0]).value;
}

// ---- one transcription

async function transcribe() {
  const mine = (running = new AbortController());
  clear();
  enable();
  if (document.activeElement === document.body) $("cancel").focus();
  $("status").textContent = "Sending the recording";
  $("progress").removeAttribute("value");
  $("progress").hidden = false;
  try {
    const response = await ask(`v1/audio/${$("task").value}`, { method: "POST", body: form(), signal: mine.signal });
    $("status").textContent = "Listening";
    const done = await follow(response);
    if (running === mine) finish(done);
  } catch (error) {
    if (running === mine) fail(error);
  }
  if (running !== mine) return; // another recording was chosen meanwhile
  const cancelHadFocus = document.activeElement === $("cancel");
  running = null;
  $("progress").hidden = true;
  enable();
  if (cancelHadFocus) $("transcribe").focus();
}

// One request brings all: text while it is decoded, and the times of words and segments with it.
function form() {
  const body = new FormData();
  body.append("file", file, file.name);
  body.append("model", $("model").value);
  for (const name of ["language", "channel"]) {
    if ($(name).value) body.append(name, $(name).value);
  }
  if (!$("keywords").parentNode.hidden) {
    const keywords = $("keywords").value.split(",").map((word) => word.trim());
    keywords.filter(Boolean).forEach((word) => body.append("keywords[]", word));
  }
  body.append("response_format", "verbose_json");
  body.append("timestamp_granularities[]", "segment");
  body.append("timestamp_granularities[]", "word");
  body.append("stream", "true");
  return body;
}

async function follow(response) {
  for await (const event of eventsOf(response)) {
    if (event.error) throw new Refused(event.error.message);
    if (event.type === "transcript.text.done") return event;
    if (event.type === "transcript.text.delta") show(event);
  }
  throw new Refused("the answer ended before the recording did");
}

function show(event) {
  text += event.delta;
  segments.push(...(event.segments ?? []));
  if (event.segments?.length) {
    $("result").hidden = false;
    transcript.append(passage(event));
  }
  if (event.duration) {
    $("progress").value = event.end / event.duration;
    $("status").textContent = `Transcribed ${clock(event.end)} of ${clock(event.duration)}`;
  }
}

function finish(done) {
  text = done.text;
  const spoken = done.language === "unknown" ? "" : `, ${done.language[0].toUpperCase()}${done.language.slice(1)}`;
  $("status").textContent = text
    ? `Done: ${clock(done.duration)}${spoken}, ${words.length === 1 ? "1 word" : `${words.length} words`}`
    : "Nothing is said in this recording";
  $("warnings").textContent = (done.warnings ?? []).map((warning) => `Note: ${warning}.`).join(" ");
}

function fail(error) {
  $("status").textContent = "";
  if (error.name === "AbortError") $("status").textContent = "Cancelled";
  else report(error);
}

function report(error) {
  if (!(error instanceof Refused || typeof error === "string")) {
    error = `The endpoint cannot be reached, or refused the upload (${error.message})`;
  }
  $("error").textContent = error.message ?? error;
}

function clear() {
  [segments, words, text, now, current] = [[], [], "", -1, 0];
  transcript.replaceChildren();
  $("result").hidden = true;
  $("status").textContent = "";
  $("warnings").textContent = "";
  report("");
}

function enable() {
  $("transcribe").hidden = Boolean(running);
  $("cancel").hidden = !running;
  $("file").disabled = Boolean(recorder);
  $("transcribe").disabled = !file || !$("model").value || Boolean(recorder);
  $("downloads").hidden = Boolean(running) || !segments.length;
}

// ---- words that can be played

function passage(event) {
  const row = document.createElement("div");
  row.className = "passage";
  const time = document.createElement("time");
  time.textContent = clock(event.segments[0].start);
  const line = document.createElement("p");
  line.dir = "auto";
  line.append(...pieces(event));
  row.append(time, line);
  return row;
}

// The text with each of its words an element of its own; all of it as one where the model gives no times of words.
function pieces({ delta, segments, words: timed = [] }) {
  const shown = delta.trim();
  if (!timed.length) return [spoken(shown, segments[0].start)];
  const found = [];
  let end = 0;
  for (const { word, start } of timed) {
    const place = shown.indexOf(word, end);
    if (place < 0) continue;
    found.push(shown.slice(end, place), spoken(word, start));
    end = place + word.length;
  }
  return [...found, shown.slice(end)];
}

function spoken(word, start) {
  const node = document.createElement("span");
  node.className = "word";
  node.setAttribute("role", "button");
  node.tabIndex = words.length === current ? 0 : -1; // one stop for the tab key, arrow keys within
  node.dataset.index = words.length;
  node.textContent = word;
  words.push({ start, node });
  return node;
}

function play(index) {
  goTo(index);
  audio.currentTime = words[index].start;
  audio.play().catch(() => report("This browser cannot play the recording"));
}

function goTo(index) {
  words[current].node.tabIndex = -1;
  current = index;
  words[current].node.tabIndex = 0;
}

// Marks the word that is being played, with each frame that the browser draws.
function mark() {
  let low = 0;
  let high = words.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (words[middle].start <= audio.currentTime) low = middle + 1;
    else high = middle;
  }
  if (low - 1 !== now) {
    words[now]?.node.classList.remove("now");
    now = low - 1;
    words[now]?.node.classList.add("now");
  }
  if (!audio.paused) requestAnimationFrame(mark);
}

function indexOf(event) {
  const node = event.target.closest(".word");
  return node ? Number(node.dataset.index) : null;
}

function step(event) {
  const index = indexOf(event);
  if (index === null || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "Enter" || event.key === " ") play(index);
  else {
    const forwards = getComputedStyle(words[index].node.parentNode).direction === "rtl" ? "ArrowLeft" : "ArrowRight";
    const backwards = forwards === "ArrowLeft" ? "ArrowRight" : "ArrowLeft";
    const aims = { [forwards]: index + 1, [backwards]: index - 1, Home: 0, End: words.length - 1 };
    const aim = words[aims[event.key]];
    if (!(event.key in aims)) return;
    if (aim) {
      goTo(aims[event.key]);
      aim.node.focus();
    }
  }
  event.preventDefault();
}

// ---- subtitles, as the endpoint writes them

function subtitles(format) {
  if (format === "txt") return `${text}\n`;
  const point = format === "srt" ? "," : ".";
  const cues = segments.map(({ start, end, text }, index) => {
    const first = Math.round(start * 1000);
    const last = Math.max(Math.round(end * 1000), first + 1);
    const line = text.trim().split(/\s+/).join(" ");
    const times = `${cueTime(first, point)} --> ${cueTime(last, point)}\n`;
    return format === "srt" ? `${index + 1}\n${times}${line.replaceAll("-->", "->")}\n\n` : `${times}${escaped(line)}\n\n`;
  });
  return (format === "vtt" ? "WEBVTT\n\n" : "") + cues.join("");
}

function escaped(line) {
  return line.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function cueTime(milliseconds, point) {
  const [hours, minutes, seconds] = parts(Math.floor(milliseconds / 1000));
  return `${two(hours)}:${two(minutes)}:${two(seconds)}${point}${String(milliseconds % 1000).padStart(3, "0")}`;
}

function clock(seconds) {
  const [hours, minutes, rest] = parts(Math.floor(seconds));
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

function parts(seconds) {
  return [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
}

function two(number) {
  return String(number).padStart(2, "0");
}

function download(format) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([subtitles(format)], { type: "text/plain" }));
  link.download = `${file.name.replace(/\.[^.]*$/, "")}.${format}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// ---- the recording

function choose(chosen) {
  running?.abort();
  running = null;
  file = chosen;
  clear();
  $("progress").hidden = true;
  $("chosen").textContent = `${file.name}, ${(file.size / 2 ** 20).toFixed(1)} MB`;
  URL.revokeObjectURL(audio.src);
  audio.src = URL.createObjectURL(file);
  $("player").hidden = false;
  enable();
}

async function record() {
  if (recorder) return recorder.stop();
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch (error) {
    return report(`The microphone cannot be used: ${error.message}`);
  }
  report("");
  audio.pause();
  const chunks = [];
  const begun = Date.now();
  const tick = () => ($("record").textContent = `Stop recording ${clock((Date.now() - begun) / 1000)}`);
  const timer = setInterval(tick, 1000);
  recorder = new MediaRecorder(stream);
  recorder.ondataavailable = ({ data }) => chunks.push(data);
  recorder.onstop = () => {
    clearInterval(timer);
    stream.getTracks().forEach((track) => track.stop());
    const type = recorder.mimeType;
    recorder = null;
    $("record").textContent = "Record";
    $("record").classList.remove("recording");
    const ending = ["mp4", "ogg"].find((name) => type.includes(name)) ?? "webm";
    choose(new File(chunks, `recording.${ending}`, { type }));
  };
  recorder.start();
  tick();
  $("record").classList.add("recording");
  enable();
}

// What MediaRecorder makes does not say how long it is, and cannot be played from a word until its end was looked for.
audio.addEventListener("loadedmetadata", () => {
  if (audio.duration !== Infinity) return;
  audio.addEventListener("durationchange", () => (audio.currentTime = 0), { once: true });
  audio.currentTime = Number.MAX_SAFE_INTEGER;
});
audio.addEventListener("play", mark);
audio.addEventListener("seeked", mark);

transcript.addEventListener("click", (event) => {
  const index = indexOf(event);
  if (index !== null && getSelection().isCollapsed) play(index); // who selects text does not want to hear it
});
transcript.addEventListener("keydown", step);
$("downloads").addEventListener("click", ({ target }) => target.dataset.format && download(target.dataset.format));

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!running) transcribe();
});
$("model").addEventListener("change", offer);
$("cancel").addEventListener("click", () => running?.abort());
$("file").addEventListener("change", ({ target }) => {
  if (target.files.length) choose(target.files[0]);
  target.value = ""; // the same file again is a choice too
});
if (navigator.mediaDevices && window.MediaRecorder) $("record").addEventListener("click", record);
else {
  $("record").disabled = true;
  $("record").title = "Browsers give the microphone to pages on https or localhost only";
}

document.addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("drop").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  if (event.dataTransfer.files.length && !recorder) choose(event.dataTransfer.files[0]);
});

$("key").value = sessionStorage.getItem(keptKey) ?? "";
$("key").addEventListener("change", ({ target }) => {
  sessionStorage.setItem(keptKey, target.value.trim());
  loadModels();
});
loadModels();
