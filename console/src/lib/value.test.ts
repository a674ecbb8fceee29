import { expect, test } from 'vitest';
import { bytesOf } from './keys.ts';
import { bestForm, read, write } from './value.ts';

test('a value is shown in the form in which it reads best', () => {
  expect(bestForm(bytesOf('{"a":1}'))).toBe('json');
  expect(bestForm(bytesOf('{broken'))).toBe('text');
  expect(bestForm(bytesOf('12'))).toBe('text');
  expect(bestForm(Uint8Array.from([0xff, 0]))).toBe('hex');
});

test('hex comes back as it was, however it is spaced', () => {
  const value = Uint8Array.from({ length: 40 }, (_, i) => i * 6);
  expect(read(write(value, 'hex') ?? '', 'hex')).toEqual(value);
  expect(read('0', 'hex')).toMatch(/pairs/);
});

test('what has no such form has none', () => {
  expect(write(Uint8Array.from([0xff]), 'text')).toBeNull();
  expect(write(bytesOf('no'), 'json')).toBeNull();
  expect(typeof read('{', 'json')).toBe('string');
});
