// Recordings dropped on the page: text (one column of samples, or the column that looks like an ECG) and EDF. What else the
// library reads, the program converts: heartlore inspect.

const ECG = /\b(ecg|ekg|ii|mlii|lead ?ii|lead ?i)\b/i;

/** Text with samples: { samples, fsHz (null if the file does not say), label }. */
export function readText(text, name) {
  const lines = text.split(/\r?\n/).filter((l) => l.trim() && !l.startsWith('#'));
  const cells = (line) => line.split(/[,;\t]/).map((c) => c.trim());
  const numeric = (c) => c === '' || /^nan$/i.test(c) || Number.isFinite(Number(c));
  if (!lines.length) throw new Error(`${name} is empty.`);
  const header = cells(lines[0]).every(numeric) ? null : cells(lines.shift());
  const width = header?.length ?? cells(lines[0]).length;
  const time = header?.findIndex((h) => /^(time|t|seconds|time_s)\b/i.test(h)) ?? -1;
  let column = header?.findIndex((h) => ECG.test(h.replace(/_/g, ' '))) ?? -1;
  if (column < 0) {
    const others = [...Array(width).keys()].filter((i) => i !== time);
    if (others.length !== 1) throw new Error(`${name} has the columns ${header?.join(', ') ?? width}: none of them is named ECG.`);
    [column] = others;
  }
  const number = (c) => (c === undefined || c === '' || /^nan$/i.test(c) ? NaN : Number(c));
  const samples = new Float64Array(lines.length);
  lines.forEach((line, i) => {
    const row = cells(line);
    if (!row.every(numeric)) throw new Error(`${name}, line ${i + 1 + (header ? 1 : 0)}: '${row.find((c) => !numeric(c))}' is not a number.`);
    samples[i] = number(row[column]);
  });
  let fsHz = null;
  if (time >= 0 && lines.length > 2) {
    const at = (i) => Number(cells(lines[i])[time]);
    fsHz = Math.round((1000 * (lines.length - 1)) / (at(lines.length - 1) - at(0))) / 1000;
  }
  return { samples, fsHz, label: header?.[column] ?? 'samples', mvPerUnit: 0 };
}

/** EDF and EDF+C: the channel that looks like an ECG. */
export function readEdf(buffer, name) {
  const bytes = new Uint8Array(buffer);
  const ascii = (at, length) => String.fromCharCode(...bytes.subarray(at, at + length)).trim();
  if (bytes.length < 256 || ascii(0, 8) !== '0') throw new Error(`${name} is not an EDF file.`);
  const [signals, recordS, claimed] = [Number(ascii(252, 4)), Number(ascii(244, 8)), Number(ascii(236, 8))];
  if (!(signals > 0 && signals < 1000) || bytes.length < 256 * (signals + 1)) throw new Error(`${name}: the header is cut off.`);
  const field = (offset, width, i) => ascii(256 + offset * signals + width * i, width);
  const labels = [...Array(signals).keys()].map((i) => field(0, 16, i));
  const index = labels.findIndex((l) => ECG.test(l));
  if (index < 0) throw new Error(`${name} has the channels ${labels.join(', ')}: none of them is an ECG.`);
  const counts = labels.map((_, i) => Number(field(216, 8, i)));
  const before = counts.slice(0, index).reduce((a, b) => a + b, 0);
  const perRecord = counts.reduce((a, b) => a + b, 0);
  const [physMin, physMax] = [Number(field(104, 8, index)), Number(field(112, 8, index))];
  const [digMin, digMax] = [Number(field(120, 8, index)), Number(field(128, 8, index))];
  if (!(digMax > digMin) || !(recordS > 0)) throw new Error(`${name}: the header's limits make no sense.`);
  const gain = (physMax - physMin) / (digMax - digMin);
  const start = 256 * (signals + 1);
  const there = Math.floor((bytes.length - start) / (2 * perRecord));
  const records = claimed > 0 ? Math.min(claimed, there) : there;
  const view = new DataView(buffer);
  const samples = new Float64Array(records * counts[index]);
  for (let r = 0; r < records; r++) {
    const at = start + 2 * (r * perRecord + before);
    for (let i = 0; i < counts[index]; i++) {
      samples[r * counts[index] + i] = physMin + (view.getInt16(at + 2 * i, true) - digMin) * gain;
    }
  }
  const unit = field(96, 8, index).toLowerCase();
  const mvPerUnit = { mv: 1, uv: 1e-3, v: 1e3 }[unit] ?? 0;
  return { samples, fsHz: counts[index] / recordS, label: labels[index], mvPerUnit };
}
