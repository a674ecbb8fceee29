// A value as text, as JSON or in hex, and back. Pure.

import { textOf } from './keys.ts';

export type Form = 'text' | 'json' | 'hex';

const encoder = new TextEncoder();

/** The form in which a value reads best. */
export function bestForm(bytes: Uint8Array): Form {
  const text = textOf(bytes);
  // eslint-disable-next-line no-control-regex
  if (text === null || /[\u0000-\u0008\u000e-\u001f]/.test(text)) return 'hex';
  const begins = text.trimStart()[0];
  if (begins !== '{' && begins !== '[') return 'text';
  try {
    JSON.parse(text);
    return 'json';
  } catch {
    return 'text';
  }
}

/** The value in a form; none if it has no such form. */
export function write(bytes: Uint8Array, form: Form): string | null {
  if (form === 'hex') return hex(bytes);
  const text = textOf(bytes);
  if (text === null || form === 'text') return text;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return null;
  }
}

/** The bytes that a text in a form stands for, or what is wrong with it. */
export function read(text: string, form: Form): Uint8Array | string {
  if (form === 'text') return encoder.encode(text);
  if (form === 'json') {
    try {
      JSON.parse(text);
      return encoder.encode(text);
    } catch (error) {
      return error instanceof Error ? error.message : 'not JSON';
    }
  }
  const digits = text.replace(/\s+/g, '');
  if (!/^([0-9a-fA-F]{2})*$/.test(digits)) return 'Hex is pairs of the digits 0 to 9 and a to f.';
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

function hex(bytes: Uint8Array): string {
  const lines: string[] = [];
  for (let i = 0; i < bytes.length; i += 16) {
    const line = [...bytes.subarray(i, i + 16)].map((byte) => byte.toString(16).padStart(2, '0'));
    lines.push([line.slice(0, 8).join(' '), line.slice(8).join(' ')].filter(Boolean).join('  '));
  }
  return lines.join('\n');
}
