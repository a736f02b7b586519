// The page in headless Chromium: a recording of each kind, a damaged one, a simulated strap for two minutes with a gap and an
// electrode off, no Bluetooth. Screenshots, light and dark, wide and as on a phone, go to FOLDER/../web-screenshots.
//   CHROMIUM=/usr/bin/chromium node page.mjs FOLDER
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { extname, join, resolve } from 'node:path';

const require = createRequire(resolve(process.env.NODE_PATH ?? '.', 'x.js'));
const { chromium } = require('playwright-core');
const folder = resolve(process.argv[2]);
const shots = join(folder, '../web-screenshots');
mkdirSync(shots, { recursive: true });
const TYPES = { '.html': 'text/html', '.mjs': 'text/javascript', '.js': 'text/javascript', '.css': 'text/css', '.wasm': 'application/wasm' };
const outside = [];
const server = createServer((request, answer) => {
  const name = new URL(request.url, 'http://x').pathname.replace(/\/$/, '/index.html');
  try {
    const bytes = readFileSync(join(folder, name));
    answer.writeHead(200, { 'content-type': TYPES[extname(name)] ?? 'application/octet-stream' }).end(bytes);
  } catch {
    answer.writeHead(404).end();
  }
});
await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
const base = `http://127.0.0.1:${server.address().port}/`;
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ['--no-sandbox'] });

async function open(options = {}, query = '') {
  const context = await browser.newContext({ viewport: { width: 1100, height: 1000 }, ...options });
  const page = await context.newPage();
  const errors = [];
  page.on('pageerror', (e) => errors.push(e.message));
  page.on('request', (r) => r.url().startsWith(base) || r.url().startsWith('data:') || outside.push(r.url()));
  await page.goto(base + query);
  await page.waitForFunction(() => document.documentElement.dataset.ready);
  return { page, errors };
}

// Simulated ECG as text: the strap's own generator.
const { SimulatedStrap, parseFrame, Clock } = await import('../page/strap.mjs');
const strap = new SimulatedStrap({ faults: false });
const samples = Array.from({ length: 130 * 40 }, () => strap.sample());
const frame = parseFrame(new SimulatedStrap().frame());
assert.equal(frame.samples.length, 73);
const clock = new Clock(130);
assert.equal(clock.lost(1_000_000_000n, 73), 0);
assert.equal(clock.lost(1_561_538_461n, 73), 0);
assert.equal(clock.lost(3_100_000_000n, 73), 127);

function edf(values) {
  const pad = (s, n) => String(s).padEnd(n).slice(0, n);
  const seconds = values.length / 130;
  const head = pad('0', 8) + pad('X', 80) + pad('X', 80) + pad('01.01.25', 8) + pad('00.00.00', 8) + pad(512, 8) + pad('', 44) + pad(seconds, 8) + pad(1, 8) + pad(1, 4);
  const signal = pad('ECG II', 16) + pad('', 80) + pad('uV', 8) + pad(-5000, 8) + pad(5000, 8) + pad(-5000, 8) + pad(5000, 8) + pad('', 80) + pad(130, 8) + pad('', 32);
  const body = Buffer.alloc(2 * values.length);
  values.forEach((v, i) => body.writeInt16LE(v, 2 * i));
  return Buffer.concat([Buffer.from(head + signal, 'latin1'), body]);
}

const { page, errors } = await open();
const status = () => page.textContent('#status');
const drop = async (name, buffer) => {
  const before = await status();
  await page.setInputFiles('#file', { name, mimeType: 'application/octet-stream', buffer: Buffer.from(buffer) });
  await page.waitForFunction((text) => document.getElementById('status').textContent !== text, before);
  return status();
};
console.log(`ready ${await page.evaluate(() => document.documentElement.dataset.ready)} ms after the script began`);
assert.match(await drop('a.csv', 'time_s,ecg\n' + samples.map((v, i) => `${i / 130},${v / 1000}`).join('\n')), /40\.0 s at 130 Hz, 4\d beats, 4 windows, 4 usable/);
await page.screenshot({ path: join(shots, 'recording-light.png'), fullPage: true });
assert.match(await drop('b.edf', edf(samples)), /ECG II, 40\.0 s at 130 Hz, 4\d beats, 4 windows, 4 usable/);
assert.match(await page.textContent('#rate'), /^6\d|7\d$/);
assert.match(await drop('bad.csv', 'ecg\n1\ntwo\n3'), /line 3: 'two' is not a number/);
assert.match(await drop('eeg.csv', 'Fp1,Fp2\n1,2\n3,4'), /none of them is named ECG/);
assert.match(await drop('cut.edf', edf(samples).subarray(0, 300)), /header is cut off/);
assert.match(await drop('empty.csv', ''), /is empty/);
assert.match(await drop('config.json', '{}'), /together/);
await page.evaluate(() => Object.defineProperty(navigator, 'bluetooth', { value: undefined }));
await page.click('#connect');
await page.waitForFunction(() => /no Web Bluetooth/.test(document.getElementById('status').textContent));
// Everything is in reach of the keyboard, and the canvases have words.
const reached = [];
await page.focus('.skip');
for (let i = 0; i < 8; i++) {
  reached.push(await page.evaluate(() => document.activeElement.id || document.activeElement.className));
  await page.keyboard.press('Tab');
}
for (const id of ['file', 'connect', 'simulate']) assert.ok(reached.includes(id), `${id} is not reached: ${reached}`);
assert.deepEqual(errors, []);

// Two minutes of the strap, twenty times as fast, dark, on a phone.
const phone = await open({ viewport: { width: 390, height: 844 }, colorScheme: 'dark', reducedMotion: 'reduce' }, '?speed=20');
await phone.page.evaluate(() => {
  window.said = [];
  new MutationObserver(() => window.said.push(document.getElementById('status').textContent)).observe(document.getElementById('status'), { childList: true });
});
await phone.page.click('#simulate');
await phone.page.waitForFunction(() => Number(document.getElementById('counts').textContent.split(' ')[0]) > 130 * 120, null, { timeout: 60000 });
const said = (await phone.page.evaluate(() => window.said)).join('\n');
assert.match(said, /not a person/);
assert.match(said, /samples were lost/);
assert.match(said, /electrode is off/i);
assert.match(said, /electrode is back/);
assert.match(await phone.page.textContent('#rate'), /^[67]\d$/);
assert.match(await phone.page.textContent('#counts'), /[2-9] gaps/);
const wide = await phone.page.evaluate(() => document.documentElement.scrollWidth);
assert.ok(wide <= 390, `the page is ${wide} pixels wide on a phone`);
await phone.page.screenshot({ path: join(shots, 'strap-dark-phone.png'), fullPage: true });
await phone.page.click('#stop');
await phone.page.waitForFunction(() => document.getElementById('status').textContent === 'Stopped.');
assert.deepEqual(phone.errors, []);
assert.deepEqual(outside, [], 'something was sent or fetched elsewhere');
await browser.close();
server.close();
console.log('page: ok');
