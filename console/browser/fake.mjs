// A placement member made of thin air, with as many ranges as are wanted: for what can't be had on one machine.
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { extname, join } from 'node:path';

const DIST = new URL('../dist/', import.meta.url).pathname;
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.woff2': 'font/woff2' };
const STORES = 9;
const ANYONE = { required: false, insecure: false, name: null, role: null, prefixes: [], expires_ms: null, may: { read: true, write: true, administer: true } };

const keyOf = (i, count) => (i === 0 || i === count ? '' : `table/${String(i).padStart(6, '0')}`);

function range(i, count, beat) {
  const replicas = [0, 1, 2].map((n) => ({ id: i * 4 + n + 2, store_id: ((i + n * 3) % STORES) + 1, role: 'voter', lag_entries: 0, live: true }));
  return {
    id: i + 1, start: keyOf(i, count), end: keyOf(i + 1, count), epoch: { bounds: 3, membership: 7 }, replicas,
    leader_store: replicas[beat % 3].store_id, size_bytes: ((i * 7919) % 96) << 20, keys: (i * 31) % 90_000,
    reads_per_second: (i * 13) % 400, writes_per_second: (i * 17 + beat) % 90, state: 'ok', operator_id: null,
  };
}

function everything(count) {
  const stores = Array.from({ length: STORES }, (_, i) => ({
    id: i + 1, name: `store-${i + 1}`, state: 'up', labels: { zone: 'abc'[i % 3] }, rpc: `10.0.0.${i + 1}:7460`, http: `10.0.0.${i + 1}:7420`,
    capacity: { total: 2 ** 40, used: 2 ** 38 + i * 2 ** 33, available: 2 ** 39 }, ranges: Math.floor(count / 3), leaders: Math.floor(count / 9),
    operators: 0, last_heartbeat_age_ms: 200, drain: null,
  }));
  const cluster = {
    id: '42', health: 'ok', leader: 'placement-1', members: [{ id: 1, name: 'placement-1', role: 'leader', rpc: 'a:1', http: 'a:2' }],
    counts: { stores: STORES, ranges: count, replicas: 3 * count, operators: 0 }, stores: { up: STORES }, ranges: { ok: count },
    under_replicated_ranges: 0, unknown_spans: 0, replication_factor: 3, settled: true,
  };
  return { about: { version: '0', has_launcher: false, routers: [] }, cluster, stores, config: { replication_factor: 3 } };
}

/** Serves a cluster of `count` ranges, `changing` of which change four times a second. */
export async function serve(count, changing) {
  const server = createServer(async (request, response) => {
    const path = new URL(request.url, 'http://x').pathname;
    if (path === '/v1/live') return live(response, count, changing);
    if (path === '/v1/session') return response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(ANYONE));
    if (path === '/v1/heatmap') return response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(heatmap(count)));
    const name = extname(path) ? path.slice(1) : 'index.html';
    try {
      const body = await readFile(join(DIST, name));
      response.writeHead(200, { 'content-type': TYPES[extname(name)] ?? 'application/octet-stream' }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return { url: `http://127.0.0.1:${server.address().port}`, close: () => (server.closeAllConnections(), server.close()) };
}

/** A load that wanders through the key space, and a place that is always hot. */
function heatmap(count) {
  const [rows, columns] = [96, 120];
  const now = Math.floor(Date.now() / 1000);
  const at = (b) => keyOf(Math.floor((b * count) / rows), count);
  const heat = (t, b) => Math.max(0, Math.round(4_000 * Math.exp(-(((b - 20 - t / 3) / 4) ** 2)) + (b === 70 ? 900 : 0) + (((b * 7 + t * 3) % 11) - 4) * 8));
  return {
    metric: 'writes', unit: 'operations per second',
    buckets: Array.from({ length: rows }, (_, b) => ({ start: at(b), end: b + 1 === rows ? '' : at(b + 1) })),
    times: Array.from({ length: columns }, (_, t) => now - (columns - t) * 30),
    values: Array.from({ length: columns }, (_, t) => Array.from({ length: rows }, (_, b) => heat(t, b))),
  };
}

function live(response, count, changing) {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  const send = (data) => response.write(`event: state\ndata: ${JSON.stringify({ at_ms: Date.now(), ...data })}\n\n`);
  const all = Array.from({ length: count }, (_, i) => range(i, count, 0));
  for (let i = 0; i < count; i += 1_000) {
    send({ ...(i === 0 ? everything(count) : {}), first: i === 0, more: i + 1_000 < count, ranges: all.slice(i, i + 1_000) });
  }
  let beat = 0;
  const timer = setInterval(() => {
    beat++;
    const ranges = Array.from({ length: changing }, (_, n) => range((beat * changing + n) % count, count, beat));
    send({ first: false, more: false, ranges });
  }, 250);
  response.on('close', () => clearInterval(timer));
}
