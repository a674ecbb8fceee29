import { expect, test } from 'vitest';
import { bytesOf, compare, escaped, inBody, read, show, toBase64 } from './keys.ts';

const bytes = (...numbers: number[]) => Uint8Array.from(numbers);

test('what is shown is read back, byte for byte', () => {
  for (const key of [bytes(), bytes(0, 1, 0xff), bytesOf('user/ada'), bytesOf('a\\b'), bytesOf('grüße/€'), bytesOf('tab\there'), bytes(0x5c, 0xff)]) {
    expect([...read(show(key))]).toEqual([...key]);
  }
  expect(show(bytes(0x61, 0xff))).toBe('a\\xff');
});

test('keys are in the order of their bytes, not of their letters', () => {
  const keys = ['b', 'a', 'ab', '\u{1f600}', '\uffee', ''].map((text) => bytesOf(text)).sort(compare);
  expect(keys.map(show)).toEqual(['', 'a', 'ab', 'b', '\uffee', '\u{1f600}']);
});

test('a key in a path has no byte that a path could take for its own', () => {
  expect(escaped(bytesOf('a/b?c#d%.'))).toBe('a%2Fb%3Fc%23d%25%2E');
  expect(escaped(bytes(0, 0xff))).toBe('%00%FF');
});

test('a key in a body is text where it is some', () => {
  expect(inBody(bytesOf('m'))).toEqual({ key: 'm' });
  expect(inBody(bytes(0xff))).toEqual({ key_base64: toBase64(bytes(0xff)) });
});
