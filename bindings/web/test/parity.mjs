// The module in Node against the program: probabilities within 1e-5, beats and quality equal, a stream equal to the batch.
//   node parity.mjs FOLDER_WITH_WASM PROGRAM
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { HeartloreError, hasSimd, load } from '../page/heartlore.mjs';
import { readText } from '../page/files.mjs';

const [folder, given] = process.argv.slice(2);
const program = resolve(given);
const cwd = mkdtempSync(join(tmpdir(), 'heartlore-web-'));
const run = (...args) => execFileSync(program, args.map(String), { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
const sizes = '--preset tiny --channels 4,4,8 --hidden 8 --head-hidden 4 --layers 1 --epochs 1 --batch 8'.split(' ');
run('simulate', '--out', 'study', '--subjects', 4, '--trials', 2, '--trial-s', 25, '--fs-hz', 160);
run('prepare', '--table', 'study/items.csv', '--out', 'store', '--zero-phase=false', '--window', 640, '--hop', 600);
run('finetune', '--data', 'store', '--out', 'fine', '--label', 'aroused', '--folds', 2, '--resamples', 20, ...sizes);
const file = 'study/sim01_01.csv';
const said = JSON.parse(run('predict', file, '--model', 'fine/model', '--unit', 'mV', '--json')).recordings[0].windows;
const found = JSON.parse(run('beats', file, '--unit', 'mV', '--json'));

assert.ok(hasSimd());
for (const name of ['heartlore.wasm', 'heartlore-plain.wasm']) {
  const start = performance.now();
  const heart = await load(readFileSync(join(folder, name)));
  const part = (n) => readFileSync(join(cwd, 'fine/model', n));
  const model = heart.model(part('config.json'), part('model.safetensors'), part('preprocessor_config.json'));
  const first = performance.now() - start;
  const { samples, fsHz } = readText(readFileSync(join(cwd, file), 'utf8'), file);
  const fs = fsHz ?? 160;
  const windows = model.predictSamples(samples, fs, { mvPerUnit: 1 });
  assert.equal(windows.length, said.length);
  let far = 0;
  windows.forEach((w, i) => {
    assert.equal(w.quality, said[i].quality);
    assert.ok(Math.abs(w.startS - said[i].start_s) < 1e-9);
    far = Math.max(far, Math.abs(w.probability - said[i].probability));
  });
  assert.ok(far <= 1e-5, `${name}: ${far}`);
  const beats = heart.beats(samples, fs);
  assert.equal(beats.length, Array.isArray(found.beats) ? found.beats.length : found.beats);
  // A stream of odd blocks gives the batch's windows, bit for bit.
  const stream = heart.stream(model, { fsHz: fs, mvPerUnit: 1 });
  const events = [];
  for (let at = 0; at < samples.length; at += 97) events.push(...stream.push(samples.subarray(at, at + 97)));
  events.push(...stream.finish());
  assert.deepEqual(events.filter((e) => e.kind === 'window').map((e) => [e.probability, e.quality]), windows.map((w) => [w.probability, w.quality]));
  assert.ok(events.some((e) => e.kind === 'beat' && e.rrS > 0.3));
  assert.ok(heart.hrv(beats.map((b) => b / fs)).rmssdMs > 0);
  assert.equal(heart.quality(new Float64Array(2000), fs).quality, 'flat line');
  // What is refused, is refused in words, and the module goes on.
  const refused = (work, kind, text) => assert.throws(work, (e) => e instanceof HeartloreError && e.kind === kind && e.message.includes(text));
  refused(() => model.predict(new Float32Array(10)), 'shape', 'whole windows');
  refused(() => model.predict(new Float32Array(model.window).fill(NaN)), 'data', 'sample 0');
  refused(() => model.reconstruct(new Float32Array(model.window)), 'usage', 'classifier');
  refused(() => heart.beats(samples, 0), 'usage', 'Hz');
  refused(() => heart.stream(null, { fsHz: 10 }), 'usage', 'Hz');
  refused(() => heart.model(part('config.json'), part('model.safetensors').subarray(0, 500)), 'format', 'model.safetensors');
  stream.close();
  stream.close();
  refused(() => stream.finish(), 'usage', 'closed');
  const x = Float32Array.from({ length: model.window * 20 }, (_, i) => Math.sin(i / 9));
  model.predict(x);
  const t = performance.now();
  model.predict(x);
  const each = (performance.now() - t) / 20;
  model.close();
  refused(() => model.predict(x), 'usage', 'closed');
  console.log(`${name}: ${windows.length} windows, largest difference ${far.toExponential(1)}; module and model ready in ${first.toFixed(0)} ms; ${each.toFixed(2)} ms a window`);
}
