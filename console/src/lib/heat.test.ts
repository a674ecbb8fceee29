import { expect, test } from 'vitest';
import { heatColour, upright, warmth } from './heat.ts';

const buckets = ['a', 'b', 'c'].map((start) => ({ start, end: `${start}z` }));

test('a map is turned so that times come first', () => {
  const byBucket = { metric: 'reads', unit: '', buckets, times: [1, 2], values: [[1, 2], [3, 4], [5, 6]] };
  expect(upright(byBucket).values).toEqual([[1, 3, 5], [2, 4, 6]]);
  const byTime = { ...byBucket, values: [[1, 3, 5], [2, 4, 6]] };
  expect(upright(byTime)).toBe(byTime);
});

test('nothing is cold, the most is hot, and all between lies between', () => {
  expect([warmth(0, 10), warmth(10, 10), warmth(5, 0)]).toEqual([0, 1, 0]);
  expect(warmth(3, 10)).toBeGreaterThan(0.3);
  expect(heatColour(0, false)).toEqual([236, 234, 226]);
  expect(heatColour(2, true).every((part) => part <= 255)).toBe(true);
});
