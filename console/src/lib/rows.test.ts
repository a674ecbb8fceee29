import { expect, test } from 'vitest';
import { bytesOf } from './keys.ts';
import { above, entryOf } from './rows.ts';

test('what is above a prefix is above all that begins with it', () => {
  expect([...above(bytesOf('a/'))]).toEqual([...bytesOf('a0')]);
  expect([...above(Uint8Array.from([1, 0xff, 0xff]))]).toEqual([2]);
  expect(above(Uint8Array.from([0xff])).length).toBe(0);
});

test('a key is in the folder that the next slash ends', () => {
  const prefix = bytesOf('a/');
  expect(entryOf(bytesOf('a/b'), prefix)).toEqual({ kind: 'key', key: bytesOf('a/b') });
  expect(entryOf(bytesOf('a/b/c'), prefix)).toEqual({ kind: 'folder', prefix: bytesOf('a/b/') });
  expect(entryOf(bytesOf('a/b/'), prefix)).toEqual({ kind: 'key', key: bytesOf('a/b/') });
});
