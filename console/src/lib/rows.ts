// Keys and values, through a router.

import { request, type Document, Problem } from './api.ts';
import { bytesOf, compare, escaped } from './keys.ts';

const SEPARATOR = 0x2f;
/** Keys fetched at a time. */
const PAGE = 100;
/** Requests made for one folder before it is cut off: a folder of folders takes one each. */
const MAX_PAGES = 40;
/** Larger values are not shown. */
export const MAX_SHOWN_BYTES = 256 * 1024;

export interface Folder {
  kind: 'folder';
  /** Everything in it begins with this. */
  prefix: Uint8Array;
}

export interface Leaf {
  kind: 'key';
  key: Uint8Array;
}

export type Entry = Folder | Leaf;

export interface Listing {
  entries: Entry[];
  /** Where more would begin; none at the end. */
  next: Uint8Array | null;
}

interface Page {
  items: { key?: string; key_base64?: string }[];
  next_cursor: string | null;
}

/** The least key above all that begin with `prefix`; empty if there is none. */
export function above(prefix: Uint8Array): Uint8Array {
  let end = prefix.length;
  while (end > 0 && prefix[end - 1] === 0xff) end--;
  const next = prefix.slice(0, end);
  if (end > 0) next[end - 1] = (next[end - 1] ?? 0) + 1;
  return next;
}

/** What a key is in a folder: itself, or the folder within that it is in. */
export function entryOf(key: Uint8Array, prefix: Uint8Array): Entry {
  const cut = key.indexOf(SEPARATOR, prefix.length);
  return cut < 0 || cut === key.length - 1 ? { kind: 'key', key } : { kind: 'folder', prefix: key.slice(0, cut + 1) };
}

/** What is in a folder, from `start` on, at most `most` entries. What is in its folders is skipped, not read. */
export async function list(prefix: Uint8Array, start: Uint8Array, most: number): Promise<Listing> {
  const entries: Entry[] = [];
  const end = above(prefix);
  let from = compare(start, prefix) > 0 ? start : prefix;
  for (let pages = 0; pages < MAX_PAGES && entries.length < most; pages++) {
    const bounds = [from.length ? `start=${escaped(from)}` : '', end.length ? `end=${escaped(end)}` : ''];
    const query = [...bounds, `limit=${PAGE}`, 'keys_only=true'].filter(Boolean).join('&');
    const page = (await (await request(`/router/v1/kv?${query}`)).json()) as Page;
    const keys = page.items.map((item) => bytesOf(item.key ?? '', item.key_base64));
    let skipped: Uint8Array | null = null;
    for (const key of keys) {
      if (skipped && compare(key, skipped) < 0) continue;
      skipped = null;
      const entry = entryOf(key, prefix);
      entries.push(entry);
      if (entry.kind === 'folder') skipped = above(entry.prefix);
    }
    const last = keys.at(-1);
    if (!last || page.next_cursor === null) return { entries, next: null };
    from = skipped ?? Uint8Array.from([...last, 0]);
    if (from.length === 0) return { entries, next: null };
  }
  return { entries, next: from };
}

export interface Row {
  value: Uint8Array;
  revision: string;
  /** The value is too large to be shown, and is not here. */
  isTooLarge: boolean;
  size: number;
}

const path = (key: Uint8Array): string => `/router/v1/kv/${escaped(key)}`;

/** The link under which a browser saves the value. */
export const download = path;

export async function fetchRow(key: Uint8Array): Promise<Row> {
  const response = await request(path(key));
  const revision = (response.headers.get('etag') ?? '').replaceAll('"', '');
  const size = Number(response.headers.get('content-length') ?? 0);
  if (size > MAX_SHOWN_BYTES) {
    await response.body?.cancel();
    return { value: new Uint8Array(), revision, isTooLarge: true, size };
  }
  const value = new Uint8Array(await response.arrayBuffer());
  return { value, revision, isTooLarge: false, size: value.length };
}

/** The revision of what was written, or, if the condition did not hold, of what is there instead. */
export type Written = { revision: string } | { conflict: string | null; document: Document };

async function conditional(key: Uint8Array, init: RequestInit, query = ''): Promise<Written> {
  const response = await request(`${path(key)}${query}`, init, [412]);
  const tag = response.headers.get('etag')?.replaceAll('"', '') ?? null;
  if (response.status !== 412) return { revision: tag ?? '' };
  return { conflict: tag, document: (await response.json()) as Document };
}

/** Writes a value if the key still has `revision`; without one, if there is no such key. */
export function put(key: Uint8Array, value: Uint8Array, revision: string | null, ttl: number | null): Promise<Written> {
  const condition: Record<string, string> = revision === null ? { 'if-none-match': '*' } : { 'if-match': `"${revision}"` };
  const init = { method: 'PUT', headers: condition, body: value as Uint8Array<ArrayBuffer> };
  return conditional(key, init, ttl === null ? '' : `?ttl=${ttl}`);
}

/** Removes a key if it still has `revision`. */
export function removeRow(key: Uint8Array, revision: string): Promise<Written> {
  return conditional(key, { method: 'DELETE', headers: { 'if-match': `"${revision}"` } });
}

export const isMissing = (error: unknown): boolean => error instanceof Problem && error.document.status === 404;
