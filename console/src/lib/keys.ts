// Keys are bytes. The API writes them as text where they are UTF-8, and in base64 beside it where they are not.

const encoder = new TextEncoder();
const strict = new TextDecoder('utf-8', { fatal: true });

export function fromBase64(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

export function toBase64(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

export function bytesOf(text: string, base64?: string): Uint8Array {
  return base64 === undefined ? encoder.encode(text) : fromBase64(base64);
}

/** The text, if the bytes are some. */
export function textOf(bytes: Uint8Array): string | null {
  try {
    return strict.decode(bytes);
  } catch {
    return null;
  }
}

/** In the order of their bytes, as the key space is. */
export function compare(a: Uint8Array, b: Uint8Array): number {
  const shorter = Math.min(a.length, b.length);
  for (let i = 0; i < shorter; i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

/** For people: as text, with \xNN for what is none. `read` takes it back. */
export function show(bytes: Uint8Array): string {
  const text = textOf(bytes);
  // eslint-disable-next-line no-control-regex
  if (text !== null && !/[\u0000-\u001f\u007f-\u009f\\]/.test(text)) return text;
  let shown = '';
  for (const byte of bytes) {
    if (byte === 0x5c) shown += '\\\\';
    else if (byte >= 0x20 && byte < 0x7f) shown += String.fromCharCode(byte);
    else shown += `\\x${byte.toString(16).padStart(2, '0')}`;
  }
  return shown;
}

/** The bytes that somebody typed: \xNN is a byte, \\ a backslash. */
export function read(text: string): Uint8Array {
  const bytes: number[] = [];
  for (let rest = text; rest.length > 0; ) {
    const escape = /^\\(?:x([0-9a-fA-F]{2})|(\\))/.exec(rest);
    const char = String.fromCodePoint(rest.codePointAt(0) ?? 0);
    if (escape) {
      bytes.push(escape[1] === undefined ? 0x5c : parseInt(escape[1], 16));
      rest = rest.slice(escape[0].length);
    } else {
      bytes.push(...encoder.encode(char));
      rest = rest.slice(char.length);
    }
  }
  return Uint8Array.from(bytes);
}

/** For a path or a query: every byte but the plainest is escaped. */
export function escaped(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) {
    const char = String.fromCharCode(byte);
    text += /[A-Za-z0-9_~-]/.test(char) ? char : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return text;
}

/** A key in a JSON body. */
export function inBody(bytes: Uint8Array): { key: string } | { key_base64: string } {
  const text = textOf(bytes);
  return text === null ? { key_base64: toBase64(bytes) } : { key: text };
}
