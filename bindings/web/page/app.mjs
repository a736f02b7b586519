// The page: recordings, a strap, a trace, figures. Every figure comes from heartlore.mjs.
import { load } from './heartlore.mjs';
import { PolarH10, SimulatedStrap, STRAP_HZ } from './strap.mjs';
import { readEdf, readText } from './files.mjs';

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const opened = performance.now();
const SHOWN_S = 8;
let heart = null;
let model = null;
let strap = null;
let live = null;

const say = (text, bad = false) => {
  $('status').textContent = text;
  $('status').classList.toggle('bad', bad);
};
const fail = (error) => {
  console.error(error);
  say(error.message ?? String(error), true);
};
const show = (id, value, digits = 0) => {
  $(id).textContent = value === null || value === undefined || Number.isNaN(value) ? '–' : value.toFixed(digits);
};

/** What is drawn: the newest samples with their beats. */
class Trace {
  constructor(canvas, hz, seconds) {
    Object.assign(this, { canvas, hz, seconds, samples: [], first: 0, beats: [] });
  }

  add(samples) {
    for (const v of samples) this.samples.push(v);
    const over = this.samples.length - Math.round(this.seconds * this.hz);
    if (over > 0) {
      this.samples.splice(0, over);
      this.first += over;
      this.beats = this.beats.filter((t) => t * this.hz >= this.first);
    }
  }

  draw() {
    const { canvas } = this;
    const scale = devicePixelRatio || 1;
    const [w, h] = [canvas.clientWidth, canvas.clientHeight];
    canvas.width = w * scale;
    canvas.height = h * scale;
    const g = canvas.getContext('2d');
    g.scale(scale, scale);
    const style = getComputedStyle(document.documentElement);
    const finite = this.samples.filter(Number.isFinite).sort((a, b) => a - b);
    if (!finite.length) return;
    const at = (q) => finite[Math.round(q * (finite.length - 1))];
    const [low, high] = [at(0.002), at(0.998)];
    const y = (v) => h - 14 - ((v - low) / (high - low || 1)) * (h - 36);
    const step = w / (this.seconds * this.hz);
    g.strokeStyle = style.getPropertyValue('--line');
    g.lineWidth = 1;
    for (let s = 0; s <= this.seconds; s++) {
      const x = s * this.hz * step;
      g.beginPath();
      g.moveTo(x, 0);
      g.lineTo(x, h);
      g.stroke();
    }
    g.strokeStyle = style.getPropertyValue('--trace');
    g.lineWidth = 1.5;
    g.beginPath();
    let pen = false;
    this.samples.forEach((v, i) => {
      if (!Number.isFinite(v)) pen = false;
      else if (pen) g.lineTo(i * step, y(v));
      else g.moveTo(i * step, y(v));
      pen = Number.isFinite(v);
    });
    g.stroke();
    g.fillStyle = style.getPropertyValue('--beat');
    for (const t of this.beats) {
      const i = Math.round(t * this.hz) - this.first;
      if (i < 0 || i >= this.samples.length) continue;
      g.beginPath();
      g.arc(i * step, Math.max(6, y(this.samples[i]) - 8), 3.5, 0, 7);
      g.fill();
    }
  }
}

/** Probability of each window over time; those that fail the quality gate are hollow. */
function drawWindows(windows) {
  const canvas = $('probability');
  const scale = devicePixelRatio || 1;
  const [w, h] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = w * scale;
  canvas.height = h * scale;
  const g = canvas.getContext('2d');
  g.scale(scale, scale);
  const style = getComputedStyle(document.documentElement);
  g.font = '12px system-ui, sans-serif';
  g.fillStyle = style.getPropertyValue('--soft');
  g.strokeStyle = style.getPropertyValue('--line');
  const y = (p) => h - 20 - p * (h - 34);
  for (const p of [0, 0.5, 1]) {
    g.beginPath();
    g.moveTo(30, y(p));
    g.lineTo(w, y(p));
    g.stroke();
    g.fillText(String(p), 4, y(p) + 4);
  }
  const known = windows.filter((v) => v.probability !== null);
  if (!known.length) return;
  const [from, to] = [known[0].startS, known.at(-1).endS];
  const x = (s) => 36 + ((s - from) / (to - from || 1)) * (w - 46);
  for (const v of known) {
    const usable = v.quality === 'ok';
    g.strokeStyle = g.fillStyle = style.getPropertyValue(usable ? '--beat' : '--soft');
    g.beginPath();
    g.arc(x((v.startS + v.endS) / 2), y(v.probability), 4, 0, 7);
    if (usable) g.fill();
    else g.stroke();
  }
  g.fillStyle = style.getPropertyValue('--soft');
  g.fillText(`${from.toFixed(0)} s`, 36, h - 4);
  g.fillText(`${to.toFixed(0)} s`, w - 40, h - 4);
}

/** The table that says in words what the picture shows. */
function listWindows(windows) {
  const rows = windows.slice(-200).map((v) => {
    const row = document.createElement('tr');
    for (const text of [v.startS.toFixed(1), v.endS.toFixed(1), v.probability === null ? '–' : v.probability.toFixed(3), v.quality]) {
      row.append(Object.assign(document.createElement('td'), { textContent: text }));
    }
    return row;
  });
  $('windows').replaceChildren(...rows);
}

function figures(beatsS, windows) {
  const hrv = heart.hrv(beatsS);
  show('rate', hrv.meanBpm);
  show('rmssd', hrv.rmssdMs);
  show('sdnn', hrv.sdnnMs);
  const usable = windows.filter((v) => v.quality === 'ok' && v.probability !== null);
  const n = usable.length;
  const mean = usable.reduce((a, v) => a + v.probability, 0) / n;
  show('mean', n ? mean : null, 2);
  // A standard deviation needs two windows, and says how much they differ, not how sure the model is.
  const spread = Math.sqrt(usable.reduce((a, v) => a + (v.probability - mean) ** 2, 0) / (n - 1));
  $('spread').textContent = !model ? 'no model' : n > 1 ? `± ${spread.toFixed(2)} between ${n} windows` : `${n} usable windows`;
  $('quality').textContent = windows.at(-1)?.quality ?? '–';
}

async function openRecording(file) {
  await stop();
  const edf = /\.(edf|rec|bdf)$/i.test(file.name);
  if (/\.bdf$/i.test(file.name)) throw new Error('BDF is not read by the page; the program reads it: heartlore predict.');
  const recording = edf ? readEdf(await file.arrayBuffer(), file.name) : readText(await file.text(), file.name);
  const fsHz = recording.fsHz ?? Number($('fs').value);
  if (!(fsHz > 0)) throw new Error(`${file.name} does not say its sampling rate: fill in the field "Sampling rate".`);
  const mvPerUnit = recording.mvPerUnit || Number($('unit').value);
  const beats = heart.beats(recording.samples, fsHz);
  const beatsS = beats.map((b) => b / fsHz);
  let windows = [];
  if (model) {
    windows = model.predictSamples(recording.samples, fsHz, { mvPerUnit });
  } else {
    const size = Math.round(10 * fsHz);
    for (let at = 0; at + size <= recording.samples.length; at += size) {
      const verdict = heart.quality(recording.samples.subarray(at, at + size), fsHz, { mvPerUnit });
      windows.push({ startS: at / fsHz, endS: (at + size) / fsHz, probability: null, quality: verdict.quality });
    }
  }
  const trace = new Trace($('trace'), fsHz, SHOWN_S);
  trace.add(Array.from(recording.samples.subarray(0, Math.round(SHOWN_S * fsHz))));
  trace.beats = beatsS.filter((t) => t < SHOWN_S);
  live = null;
  trace.draw();
  drawWindows(windows);
  listWindows(windows);
  figures(beatsS, windows);
  const usable = windows.filter((v) => v.quality === 'ok').length;
  say(`${file.name}: ${recording.label}, ${(recording.samples.length / fsHz).toFixed(1)} s at ${fsHz} Hz, ${beats.length} beats, ${windows.length} windows, ${usable} usable.`);
}

async function openFiles(files) {
  try {
    const named = (name) => files.find((f) => f.name === name);
    if (named('config.json') || named('model.safetensors')) {
      if (!named('config.json') || !named('model.safetensors')) throw new Error('A model is the files config.json, model.safetensors and preprocessor_config.json together.');
      const bytes = await Promise.all(['config.json', 'model.safetensors', 'preprocessor_config.json'].map((n) => named(n)?.arrayBuffer()));
      useModel(heart.model(...bytes), 'the files given');
      return;
    }
    if (files[0]) await openRecording(files[0]);
  } catch (error) {
    fail(error);
  }
}

function useModel(next, from) {
  model?.close();
  model = next;
  $('model').textContent = `Model from ${from}: windows of ${(model.window / model.rateHz).toFixed(0)} s at ${model.rateHz} Hz, threshold ${model.threshold}.`;
}

function take(events) {
  for (const event of events) {
    if (event.kind === 'beat') {
      live.beats.push(event.timeS);
      live.trace.beats.push(event.timeS);
    } else if (event.kind === 'window') {
      live.windows.push({ startS: event.timeS, endS: event.endS, probability: event.probability, quality: event.quality });
    } else if (event.kind === 'gap') {
      live.gaps += 1;
      live.beats = [];
      say(`${event.samples} samples were lost at ${event.timeS.toFixed(0)} s.`, true);
    } else if (event.kind === 'lead_off') {
      say('An electrode is off: moisten and tighten the strap.', true);
    } else if (event.kind === 'lead_on') {
      say('The electrode is back.');
    }
  }
  live.beats = live.beats.slice(-300);
  live.windows = live.windows.slice(-500);
  $('counts').textContent = `${live.seen} samples, ${live.gaps} gaps`;
}

async function start(kind) {
  try {
    await stop();
    const options = { fsHz: STRAP_HZ, mvPerUnit: 1e-3, hopS: 5, causal: true };
    live = { trace: new Trace($('trace'), STRAP_HZ, SHOWN_S), beats: [], windows: [], gaps: 0, seen: 0, stream: heart.stream(model, options) };
    strap = kind === 'simulated' ? new SimulatedStrap({ speed: Number(query.get('speed') ?? 1) }) : new PolarH10();
    await strap.connect(
      (samples) => {
        live.seen += samples.length;
        live.trace.add(samples);
        take(live.stream.push(samples));
      },
      (lost) => {
        live.seen += lost;
        live.trace.add(new Array(Math.min(lost, 20 * STRAP_HZ)).fill(NaN));
        take(live.stream.lost(lost));
      },
      say,
    );
    $('stop').disabled = false;
    const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
    live.timer = setInterval(() => live && refresh(), still ? 1000 : 100);
  } catch (error) {
    await stop();
    fail(error);
  }
}

function refresh() {
  live.trace.draw();
  if (live.beats.length > 2) figures(live.beats, live.windows);
  drawWindows(live.windows);
  if (live.listed !== live.windows.length) listWindows(live.windows);
  live.listed = live.windows.length;
}

async function stop() {
  if (strap) await strap.disconnect();
  strap = null;
  if (live?.timer) {
    clearInterval(live.timer);
    take(live.stream.finish());
    refresh();
    live.stream.close();
    live.timer = null;
  }
  $('stop').disabled = true;
}

$('file').addEventListener('change', (event) => openFiles([...event.target.files]));
$('connect').addEventListener('click', () => start('polar'));
$('simulate').addEventListener('click', () => start('simulated'));
$('stop').addEventListener('click', () => stop().then(() => say('Stopped.')));
addEventListener('dragover', (event) => event.preventDefault());
addEventListener('drop', (event) => {
  event.preventDefault();
  openFiles([...event.dataTransfer.files]);
});
addEventListener('resize', () => live && refresh());

try {
  heart = await load(new URL('.', import.meta.url));
  const fetched = await Promise.all(['config.json', 'model.safetensors', 'preprocessor_config.json'].map((n) => fetch(`model/${n}`).catch(() => null)));
  if (fetched.every((answer) => answer?.ok)) {
    useModel(heart.model(...(await Promise.all(fetched.map((answer) => answer.arrayBuffer())))), 'this page');
  }
  document.documentElement.dataset.ready = (performance.now() - opened).toFixed(0);
  say(`Ready. heartlore ${heart.version()}. Nothing leaves this device.`);
  for (const id of ['file', 'connect', 'simulate']) $(id).disabled = false;
} catch (error) {
  fail(error);
}
if ('serviceWorker' in navigator && location.protocol === 'https:') navigator.serviceWorker.register('offline.js');
