// Chest straps: the Polar H10 over Web Bluetooth (the ECG stream of Polar's documented measurement-data service), and a
// simulated one behind the same interface: `connect(onSamples, onLost, onState)` and `disconnect()`. Samples are in microvolts.

const SERVICE = 'fb005c80-02e7-f387-1cad-8acd2d8df0c8';
const CONTROL = 'fb005c81-02e7-f387-1cad-8acd2d8df0c8';
const DATA = 'fb005c82-02e7-f387-1cad-8acd2d8df0c8';
export const STRAP_HZ = 130;
// Start (2), ECG (0), setting 0: one value of 130 Hz, setting 1: one value of 14 bits.
const START_ECG = Uint8Array.of(2, 0, 0, 1, STRAP_HZ, 0, 1, 1, 14, 0);
const STOP_ECG = Uint8Array.of(3, 0);

/** One frame: type (0 is ECG), time of the last sample in ns, frame type, then samples of 24 bits in microvolts. */
export function parseFrame(view) {
  if (view.byteLength < 10 || view.getUint8(0) !== 0) return null;
  if (view.getUint8(9) !== 0) throw new Error(`the strap sends ECG frames of type ${view.getUint8(9)}, which is not known`);
  const samples = [];
  for (let at = 10; at + 3 <= view.byteLength; at += 3) {
    samples.push((view.getUint8(at) | (view.getUint8(at + 1) << 8)) | (view.getInt8(at + 2) << 16));
  }
  return { timeNs: view.getBigUint64(1, true), samples };
}

/** Counts the samples that never came, from the frames' own times. */
export class Clock {
  constructor(hz) {
    this.hz = hz;
    this.last = null;
  }

  /** Samples lost before this frame. */
  lost(timeNs, count) {
    const before = this.last;
    this.last = timeNs;
    if (before === null) return 0;
    const missing = Math.round((Number(timeNs - before) / 1e9) * this.hz) - count;
    // The strap's clock is not exactly at 130 Hz: less than a tenth of a second is drift.
    return missing > this.hz / 10 ? missing : 0;
  }
}

/** A Polar H10. */
export class PolarH10 {
  async connect(onSamples, onLost, onState) {
    if (!navigator.bluetooth) {
      throw new Error('This browser has no Web Bluetooth. Use Chrome or Edge on a computer or an Android phone, or try the simulated strap.');
    }
    try {
      this.device = await navigator.bluetooth.requestDevice({ filters: [{ namePrefix: 'Polar H10' }], optionalServices: [SERVICE] });
    } catch (error) {
      if (error.name === 'NotFoundError') throw new Error('No strap was chosen.');
      if (error.name === 'SecurityError' || error.name === 'NotAllowedError') throw new Error('The browser may not use Bluetooth: allow it in the settings of this page.');
      throw error;
    }
    this.clock = new Clock(STRAP_HZ);
    this.wanted = true;
    this.device.addEventListener('gattserverdisconnected', async () => {
      if (!this.wanted) return;
      onState('The strap is out of reach. Trying to reconnect.');
      for (let pause = 1; this.wanted; pause = Math.min(30, 2 * pause)) {
        await new Promise((done) => setTimeout(done, 1000 * pause));
        try {
          await this.subscribe(onSamples, onLost);
          return onState('Connected again.');
        } catch { /* still away */ }
      }
    });
    await this.subscribe(onSamples, onLost);
    onState(`Connected to ${this.device.name}.`);
  }

  async subscribe(onSamples, onLost) {
    const server = await this.device.gatt.connect();
    const service = await server.getPrimaryService(SERVICE);
    const [control, data] = await Promise.all([service.getCharacteristic(CONTROL), service.getCharacteristic(DATA)]);
    this.control = control;
    await control.startNotifications();
    data.addEventListener('characteristicvaluechanged', (event) => {
      const frame = parseFrame(event.target.value);
      if (!frame) return;
      const lost = this.clock.lost(frame.timeNs, frame.samples.length);
      if (lost) onLost(lost);
      onSamples(frame.samples);
    });
    await data.startNotifications();
    await control.writeValueWithResponse(START_ECG);
  }

  async disconnect() {
    this.wanted = false;
    try {
      await this.control?.writeValueWithResponse(STOP_ECG);
    } catch { /* it is gone already */ }
    this.device?.gatt.disconnect();
  }
}

/** A strap that is not there: simulated ECG in the H10's own frames, with packets that get lost and an electrode that comes off.
 * `speed` is how many times faster than life it runs. */
export class SimulatedStrap {
  constructor({ speed = 1, faults = true } = {}) {
    Object.assign(this, { speed, faults, n: 0, nextBeat: 0.4, beats: [], seed: 1 });
  }

  random() {
    this.seed = (Math.imul(this.seed, 1664525) + 1013904223) >>> 0;
    return this.seed / 2 ** 32;
  }

  sample() {
    const t = this.n++ / STRAP_HZ;
    while (this.nextBeat < t + 1) {
      this.beats.push(this.nextBeat);
      this.nextBeat += 0.85 + 0.05 * Math.sin(0.25 * 2 * Math.PI * this.nextBeat) + 0.02 * (this.random() - 0.5);
    }
    while (this.beats[0] < t - 1) this.beats.shift();
    const wave = (s, at, height, width) => height * Math.exp(-0.5 * ((s - at) / width) ** 2);
    let uv = 12 * (this.random() - 0.5) + 40 * Math.sin(2 * Math.PI * 0.25 * t);
    for (const beat of this.beats) {
      const s = t - beat;
      uv += wave(s, -0.17, 90, 0.022) - wave(s, -0.025, 110, 0.01) + wave(s, 0, 1100, 0.011)
        - wave(s, 0.026, 220, 0.011) + wave(s, 0.27, 260, 0.05);
    }
    return Math.round(uv);
  }

  frame() {
    const count = 73;
    const view = new DataView(new ArrayBuffer(10 + 3 * count));
    for (let i = 0; i < count; i++) {
      let uv = this.sample();
      const t = (this.n % (60 * STRAP_HZ)) / STRAP_HZ;
      if (this.faults && t > 50 && t < 53) uv = 0; // an electrode is off
      view.setUint8(10 + 3 * i, uv & 255);
      view.setUint8(11 + 3 * i, (uv >> 8) & 255);
      view.setInt8(12 + 3 * i, uv >> 16);
    }
    view.setBigUint64(1, BigInt(Math.round((this.n / STRAP_HZ) * 1e9)), true);
    return view;
  }

  async connect(onSamples, onLost, onState) {
    const clock = new Clock(STRAP_HZ);
    onState('Simulated strap: this is not a person.');
    this.timer = setInterval(() => {
      const frames = Math.max(1, Math.round(this.speed / 10));
      for (let k = 0; k < frames; k++) {
        const frame = parseFrame(this.frame());
        const t = (this.n % (60 * STRAP_HZ)) / STRAP_HZ;
        if (this.faults && t > 30 && t < 31.5) continue; // packets that get lost
        const lost = clock.lost(frame.timeNs, frame.samples.length);
        if (lost) onLost(lost);
        onSamples(frame.samples);
      }
    }, (1000 * 73) / STRAP_HZ / Math.min(this.speed, 10));
  }

  async disconnect() {
    clearInterval(this.timer);
  }
}
