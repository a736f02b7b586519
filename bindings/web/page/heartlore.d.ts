/** What the library refuses. */
export class HeartloreError extends Error {
  /** Code as in heartlore.h. */
  code: number;
  kind: 'usage' | 'shape' | 'format' | 'data' | 'io' | 'numeric' | 'internal';
}

/** Whether this engine has WebAssembly SIMD. */
export function hasSimd(): boolean;
/** Loads the module from bytes (Node) or a folder's URL (browser), with SIMD where there is SIMD. */
export function load(source: BufferSource | string | URL): Promise<Heartlore>;

export interface WindowProbability {
  startS: number;
  endS: number;
  probability: number;
  /** `ok`, or why the quality gate drops the window. */
  quality: string;
}

export interface Quality {
  quality: string;
  /** From 0 (no ECG) to 1 (clean). */
  index: number;
  /** NaN if it could not be taken. */
  heartRateBpm: number;
  beats: number;
  missing: number;
}

/** NaN where there are too few beats. */
export interface Hrv {
  meanBpm: number;
  sdnnMs: number;
  rmssdMs: number;
  pnn50Percent: number;
  intervals: number;
  dropped: number;
}

export interface StreamOptions {
  fsHz: number;
  /** Millivolts per unit of the samples; 0 if nobody knows. */
  mvPerUnit?: number;
  /** Seconds from one window's start to the next; 0 for the model's own. */
  hopS?: number;
  leadOffS?: number;
  /** Let a model trained on zero-phase windows run with the causal filter of the same edges. */
  causal?: boolean;
}

export interface StreamEvent {
  kind: 'beat' | 'window' | 'gap' | 'lead_off' | 'lead_on';
  /** Seconds of signal: when, or since when. */
  timeS: number;
  endS: number | null;
  rrS: number | null;
  index: number | null;
  samples: number;
  probability: number | null;
  quality: string | null;
}

/** The loaded module. */
export class Heartlore {
  version(): string;
  /** A model from the bytes of config.json, model.safetensors and preprocessor_config.json. */
  model(config: BufferSource, weights: BufferSource, preprocessor?: BufferSource | null): Model;
  /** Sample numbers of the R peaks; NaN is a missing sample. */
  beats(samples: ArrayLike<number>, fsHz: number): number[];
  quality(samples: ArrayLike<number>, fsHz: number, options?: { mvPerUnit?: number }): Quality;
  /** Of beats at these seconds, ascending. */
  hrv(beatsS: ArrayLike<number>): Hrv;
  stream(model: Model | null, options: StreamOptions): Stream;
}

export class Model {
  readonly window: number;
  readonly width: number;
  readonly rateHz: number;
  readonly threshold: number;
  /** One probability per window; `windows` is [n, window], row by row. */
  predict(windows: ArrayLike<number>): Float32Array;
  /** [n, width]. */
  embed(windows: ArrayLike<number>): Float32Array;
  /** [n, window]; `mask` is 1 where a sample is hidden. */
  reconstruct(windows: ArrayLike<number>, mask?: ArrayLike<number> | null): Float32Array;
  predictSamples(samples: ArrayLike<number>, fsHz: number, options?: { mvPerUnit?: number; hopS?: number }): WindowProbability[];
  close(): void;
}

export class Stream {
  push(samples: ArrayLike<number>): StreamEvent[];
  lost(samples: number): StreamEvent[];
  finish(): StreamEvent[];
  close(): void;
}
