// heartlore in the browser and in Node: the C interface compiled to WebAssembly, with its pointers kept inside this file.
// Every number comes from the module; there is no arithmetic here. Types: heartlore.d.ts.

const ENCODER = new TextEncoder();
const DECODER = new TextDecoder();
const KINDS = ['', 'beat', 'window', 'gap', 'lead_off', 'lead_on'];
const CODES = { 2: 'usage', 3: 'shape', 4: 'format', 5: 'data', 6: 'io', 7: 'numeric', 99: 'internal' };

/** What the library refuses: `code` as in heartlore.h, `kind` in a word. */
export class HeartloreError extends Error {
  constructor(code, message) {
    super(message);
    this.name = 'HeartloreError';
    this.code = code;
    this.kind = CODES[code] ?? 'internal';
  }
}

// A module of 34 bytes that uses one vector instruction: valid only where WebAssembly has SIMD.
const PROBE = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11]);

/** Whether this engine has WebAssembly SIMD. */
export const hasSimd = () => WebAssembly.validate(PROBE);

/** Loads the module from bytes (Node) or a folder's URL (browser), with SIMD where there is SIMD. */
export async function load(source) {
  let bytes = source;
  if (typeof source === 'string' || source instanceof URL) {
    const base = String(source).replace(/\/?$/, '/');
    const answer = await fetch(base + (hasSimd() ? 'heartlore.wasm' : 'heartlore-plain.wasm'));
    if (!answer.ok) throw new HeartloreError(6, `${answer.url}: ${answer.status} ${answer.statusText}`);
    bytes = await answer.arrayBuffer();
  }
  const { instance } = await WebAssembly.instantiate(bytes, {});
  return new Heartlore(instance.exports);
}

/** The loaded module. */
export class Heartlore {
  constructor(exports) {
    this.c = exports;
    this.error = exports.heartlore_error_new();
  }

  view() {
    // Memory may have grown since the last call, which detaches views.
    return new DataView(this.c.memory.buffer);
  }

  text(pointer) {
    const bytes = new Uint8Array(this.c.memory.buffer);
    return DECODER.decode(bytes.subarray(pointer, bytes.indexOf(0, pointer)));
  }

  /** Runs `work` with an allocator whose memory is given back afterwards. */
  scoped(work) {
    const held = [];
    const room = (bytes) => {
      const pointer = this.c.heartlore_alloc(bytes);
      if (!pointer) throw new HeartloreError(99, `${bytes} bytes of memory are not to be had`);
      held.push([pointer, bytes]);
      return pointer;
    };
    const put = (array) => {
      const pointer = room(array.byteLength);
      const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
      new Uint8Array(this.c.memory.buffer).set(bytes, pointer);
      return pointer;
    };
    try {
      return work(room, put);
    } finally {
      for (const [pointer, bytes] of held) this.c.heartlore_dealloc(pointer, bytes);
    }
  }

  call(code) {
    if (code !== 0) throw new HeartloreError(code, this.text(this.c.heartlore_error_message(this.error)));
  }

  version() {
    return this.text(this.c.heartlore_version());
  }

  /** A model from the bytes of its files; `preprocessor` may be left out. */
  model(config, weights, preprocessor = null) {
    return this.scoped((room, put) => {
      const out = room(4);
      const parts = [config, weights, preprocessor].map((b) => (b ? new Uint8Array(b) : null));
      const [c, w, p] = parts.map((b) => (b ? put(b) : 0));
      this.call(this.c.heartlore_model_from_memory(
        c, parts[0].length, w, parts[1].length, p, parts[2]?.length ?? 0, 1, out, this.error));
      return new Model(this, this.view().getUint32(out, true));
    });
  }

  /** Sample numbers of the R peaks. */
  beats(samples, fsHz) {
    return this.scoped((room, put) => {
      const most = Math.ceil(samples.length / Math.max(1, fsHz * 0.15)) + 16;
      const [x, out, found] = [put(Float64Array.from(samples)), room(4 * most), room(4)];
      this.call(this.c.heartlore_beats(x, samples.length, fsHz, out, most, found, this.error));
      const n = Math.min(most, this.view().getUint32(found, true));
      return Array.from(new Uint32Array(this.c.memory.buffer, out, n));
    });
  }

  /** The quality gate's judgement of a stretch. */
  quality(samples, fsHz, { mvPerUnit = 0 } = {}) {
    return this.scoped((room, put) => {
      const [x, out] = [put(Float64Array.from(samples)), room(32)];
      this.call(this.c.heartlore_judge(x, samples.length, fsHz, mvPerUnit, out, this.error));
      const v = this.view();
      return {
        quality: this.text(this.c.heartlore_quality_name(v.getInt32(out, true))),
        index: v.getFloat64(out + 8, true),
        heartRateBpm: v.getFloat64(out + 16, true),
        beats: v.getUint32(out + 24, true),
        missing: v.getUint32(out + 28, true),
      };
    });
  }

  /** Heart rate and variability of beats at these seconds. */
  hrv(beatsS) {
    return this.scoped((room, put) => {
      const [x, out] = [put(Float64Array.from(beatsS)), room(40)];
      this.call(this.c.heartlore_measure_hrv(x, beatsS.length, out, this.error));
      const v = this.view();
      return {
        meanBpm: v.getFloat64(out, true),
        sdnnMs: v.getFloat64(out + 8, true),
        rmssdMs: v.getFloat64(out + 16, true),
        pnn50Percent: v.getFloat64(out + 24, true),
        intervals: v.getUint32(out + 32, true),
        dropped: v.getUint32(out + 36, true),
      };
    });
  }

  /** A stream through `model`, or without one (null): beats and quality only. */
  stream(model, { fsHz, mvPerUnit = 0, hopS = 0, leadOffS = 0, causal = false }) {
    return this.scoped((room) => {
      const [options, out] = [room(40), room(4)];
      const v = this.view();
      [fsHz, mvPerUnit, hopS, leadOffS].forEach((x, i) => v.setFloat64(options + 8 * i, x, true));
      v.setUint8(options + 32, causal ? 1 : 0);
      this.call(model
        ? this.c.heartlore_stream_new(model.open(), options, out, this.error)
        : this.c.heartlore_stream_without_model(options, out, this.error));
      return new Stream(this, this.view().getUint32(out, true));
    });
  }
}

/** A trained model. */
export class Model {
  constructor(lib, handle) {
    this.lib = lib;
    this.handle = handle;
    this.window = lib.c.heartlore_model_window(handle);
    this.width = lib.c.heartlore_model_width(handle);
    this.rateHz = lib.c.heartlore_model_rate_hz(handle);
    this.threshold = lib.c.heartlore_model_threshold(handle);
  }

  open() {
    if (!this.handle) throw new HeartloreError(2, 'the model was closed');
    return this.handle;
  }

  run(name, windows, each, mask) {
    const { lib } = this;
    return lib.scoped((room, put) => {
      const x = windows instanceof Float32Array ? windows : Float32Array.from(windows);
      const n = Math.floor(x.length / this.window) * each;
      const [input, out] = [put(x), room(4 * n)];
      const more = name === 'heartlore_reconstruct' ? [mask ? put(Uint8Array.from(mask)) : 0] : [];
      if (mask && mask.length !== x.length) throw new HeartloreError(3, `${x.length} samples but ${mask.length} mask values`);
      lib.call(lib.c[name](this.open(), input, x.length, ...more, out, n, lib.error));
      return new Float32Array(lib.c.memory.buffer.slice(out, out + 4 * n));
    });
  }

  /** Probability of the positive state for each window of `windows`, window after window. */
  predict(windows) {
    return this.run('heartlore_predict', windows, 1);
  }

  /** `width` features per window. */
  embed(windows) {
    return this.run('heartlore_embed', windows, this.width);
  }

  /** Each window reconstructed; `mask` is 1 where a sample is hidden. */
  reconstruct(windows, mask = null) {
    return this.run('heartlore_reconstruct', windows, this.window, mask);
  }

  /** Windows of a recording with probability and quality; NaN is a missing sample. */
  predictSamples(samples, fsHz, { mvPerUnit = 0, hopS = 0 } = {}) {
    const { lib } = this;
    return lib.scoped((room, put) => {
      const [x, out] = [put(Float64Array.from(samples)), room(24)];
      lib.call(lib.c.heartlore_predict_samples(
        this.open(), x, samples.length, fsHz, mvPerUnit, hopS, out, lib.error));
      const handle = lib.view().getUint32(out, true);
      const windows = [];
      for (let i = 0; i < lib.c.heartlore_prediction_len(handle); i++) {
        lib.call(lib.c.heartlore_prediction_window(handle, i, out, lib.error));
        const v = lib.view();
        windows.push({
          startS: v.getFloat64(out, true),
          endS: v.getFloat64(out + 8, true),
          probability: v.getFloat32(out + 16, true),
          quality: lib.text(lib.c.heartlore_quality_name(v.getInt32(out + 20, true))),
        });
      }
      lib.view().setUint32(out, handle, true);
      lib.c.heartlore_prediction_free(out);
      return windows;
    });
  }

  close() {
    close(this, 'heartlore_model_free');
  }
}

/** A live signal. */
export class Stream {
  constructor(lib, handle) {
    this.lib = lib;
    this.handle = handle;
  }

  open() {
    if (!this.handle) throw new HeartloreError(2, 'the stream was closed');
    return this.handle;
  }

  /** Takes the next samples and gives the events that became known. */
  push(samples) {
    const { lib } = this;
    lib.scoped((room, put) => {
      lib.call(lib.c.heartlore_stream_push(this.open(), put(Float64Array.from(samples)), samples.length, lib.error));
    });
    return this.events();
  }

  /** That many samples were lost. */
  lost(samples) {
    this.lib.call(this.lib.c.heartlore_stream_lost(this.open(), BigInt(samples), this.lib.error));
    return this.events();
  }

  /** The signal has ended. */
  finish() {
    this.lib.call(this.lib.c.heartlore_stream_finish(this.open(), this.lib.error));
    return this.events();
  }

  events() {
    const { lib } = this;
    return lib.scoped((room) => {
      const out = room(56);
      const events = [];
      for (;;) {
        lib.call(lib.c.heartlore_stream_next(this.open(), out, lib.error));
        const v = lib.view();
        const number = (at) => {
          const x = v.getFloat64(out + at, true);
          return Number.isNaN(x) ? null : x;
        };
        const kind = KINDS[v.getInt32(out, true)];
        if (!kind) return events;
        const probability = v.getFloat32(out + 48, true);
        events.push({
          kind,
          timeS: number(8),
          endS: number(16),
          rrS: number(24),
          index: number(32),
          samples: Number(v.getBigUint64(out + 40, true)),
          probability: Number.isNaN(probability) ? null : probability,
          quality: kind === 'window' ? lib.text(lib.c.heartlore_quality_name(v.getInt32(out + 4, true))) : null,
        });
      }
    });
  }

  close() {
    close(this, 'heartlore_stream_free');
  }
}

function close(object, free) {
  if (!object.handle) return;
  object.lib.scoped((room) => {
    const at = room(4);
    object.lib.view().setUint32(at, object.handle, true);
    object.lib.c[free](at);
  });
  object.handle = 0;
}
