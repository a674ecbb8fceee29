// A real cluster for the browser: `holdfast up` on ports that nobody uses, stopped at the end.
import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { once } from 'node:events';

const HOLDFAST = process.env.HOLDFAST ?? new URL('../../target/debug/holdfast', import.meta.url).pathname;
const START_MS = 120_000;
const USED = [0, 9, 10, 20, 21, 22, 23, 24, 50, 60, 61, 62, 63, 64];

const isFree = (port) =>
  new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
  });

async function freeBase() {
  for (let i = 0; i < 50; i++) {
    const base = 20_000 + 100 * Math.floor(Math.random() * 120);
    const free = await Promise.all(USED.map((offset) => isFree(base + offset)));
    if (free.every(Boolean)) return base;
  }
  throw new Error('no free ports');
}

/** Starts a cluster; returns once the first write would succeed. */
export async function startCluster(stores) {
  const base = await freeBase();
  const up = spawn(HOLDFAST, ['up', '--ephemeral', '--stores', String(stores), '--base-port', String(base)], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(up, 'exit');
  const ready = new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error('the cluster is not up in time')), START_MS);
    let said = '';
    up.stdout.on('data', (chunk) => {
      said += chunk;
      if (!said.includes('Ctrl-C stops it')) return;
      clearTimeout(late);
      resolve();
    });
    void ended.then(() => reject(new Error(`the launcher ended: ${said}`)));
  });
  const stop = async () => {
    up.kill('SIGTERM');
    await ended;
  };
  try {
    await ready;
  } catch (error) {
    await stop();
    throw error;
  }
  return { router: `http://127.0.0.1:${base}`, control: `http://127.0.0.1:${base + 9}/api/control`, console: `http://127.0.0.1:${base + 10}`, stop };
}

/** A placement member by itself that was started with `--insecure`; returns once it serves. */
export async function startInsecure(dir) {
  const base = await freeBase();
  const [http, rpc] = [`127.0.0.1:${base}`, `127.0.0.1:${base + 10}`];
  const given = ['placement', '--name', 'p', '--http', http, '--rpc', rpc, '--members', `p=${rpc}`, '--bootstrap', '--data-dir', dir, '--insecure'];
  const member = spawn(HOLDFAST, given, { stdio: 'ignore' });
  const ended = once(member, 'exit');
  const stop = async () => {
    member.kill('SIGTERM');
    await ended;
  };
  const late = Date.now() + START_MS;
  while (!(await fetch(`http://${http}/ready`).catch(() => null))?.ok) {
    if (Date.now() > late || member.exitCode !== null) {
      await stop();
      throw new Error('the member is not ready in time');
    }
    await new Promise((again) => setTimeout(again, 50));
  }
  return { console: `http://${http}`, stop };
}
