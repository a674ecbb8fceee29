// The heat map as the placement driver gives it, and as it is drawn. Pure.

export interface HeatMap {
  metric: string;
  unit: string;
  buckets: { start: string; start_base64?: string; end: string; end_base64?: string }[];
  /** Seconds since the Unix epoch. */
  times: number[];
  /** By time, then by bucket. */
  values: number[][];
}

/** Times first, whichever way round it came. */
export function upright(map: HeatMap): HeatMap {
  const [rows, columns] = [map.values.length, map.values[0]?.length ?? 0];
  const isTimesFirst = rows === map.times.length && columns === map.buckets.length;
  if (isTimesFirst || rows !== map.buckets.length) return map;
  return { ...map, values: map.times.map((_, t) => map.values.map((row) => row[t] ?? 0)) };
}

/** How warm a value is, 0 to 1: by its logarithm, since a hot range is thousands of times hotter than the rest. */
export function warmth(value: number, most: number): number {
  return value <= 0 || most <= 0 ? 0 : Math.log1p(value) / Math.log1p(most);
}

/** The colours from cold to hot, as red, green, blue. */
const LIGHT: [number, number, number][] = [[236, 234, 226], [200, 219, 205], [122, 178, 160], [214, 170, 78], [192, 92, 46], [128, 28, 22]];
const DARK: [number, number, number][] = [[13, 14, 15], [22, 50, 46], [36, 105, 92], [176, 136, 52], [222, 108, 62], [255, 196, 168]];

export function heatColour(warmth: number, isDark: boolean): [number, number, number] {
  const scale = isDark ? DARK : LIGHT;
  const at = Math.min(0.9999, Math.max(0, warmth)) * (scale.length - 1);
  const [low, high] = [scale[Math.floor(at)] ?? [0, 0, 0], scale[Math.floor(at) + 1] ?? [0, 0, 0]];
  const share = at - Math.floor(at);
  return [0, 1, 2].map((i) => Math.round((low[i] ?? 0) + ((high[i] ?? 0) - (low[i] ?? 0)) * share)) as [number, number, number];
}
