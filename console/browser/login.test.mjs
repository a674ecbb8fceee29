// Logging in, what each role is shown, and how a session ends; on a cluster of real processes that asks for credentials.
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launch } from './browser.mjs';
import { startCluster, startInsecure } from './cluster.mjs';

const OUT = new URL('out/', import.meta.url).pathname;
/** Long enough for anything that is going to happen at all. */
const PATIENCE = 30_000;

let cluster;
let browser;
let root;

before(async () => {
  await mkdir(OUT, { recursive: true });
  [cluster, browser] = await Promise.all([startCluster(1), launch()]);
  const put = await fetch(`${cluster.router}/v1/kv/orders%2F1`, { method: 'PUT', body: 'one' });
  assert.equal(put.status, 201);
  root = (await token({ name: 'root', role: 'admin' })).token;
});

after(async () => {
  await browser?.close();
  await cluster?.stop();
});

async function token(wish) {
  const headers = { 'content-type': 'application/json', ...(root && { authorization: `Bearer ${root}` }) };
  const made = await fetch(`${cluster.console}/v1/tokens`, { method: 'POST', headers, body: JSON.stringify(wish) });
  assert.equal(made.status, 201, await made.clone().text());
  return made.json();
}

/** A page whose every word of trouble is kept; refusals are part of these tests. */
async function open(path) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 } });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const errors = [];
  page.on('pageerror', (error) => errors.push(String(error)));
  page.on('console', (message) => message.type() === 'error' && !/\b40[13]\b/.test(message.text()) && errors.push(message.text()));
  await page.goto(`${cluster.console}${path}`);
  const close = async () => {
    assert.deepEqual(errors, []);
    await context.close();
  };
  return { context, page, close, picture: (name) => page.screenshot({ path: `${OUT}${name}.png` }) };
}

async function logIn(page, secret) {
  await page.getByRole('heading', { name: 'Log in' }).waitFor();
  await page.locator('input[name=token]').fill(secret);
  await page.getByRole('button', { name: 'Log in' }).click();
}

test('an admin logs in, changes something and logs out; no script ever holds the token', async () => {
  const { context, page, close, picture } = await open('/ranges');
  await logIn(page, 'hf_mistyped');
  await page.getByText('This token is not known').waitFor();
  await picture('login-refused');
  await logIn(page, root);
  await page.getByText('Live from placement-1').waitFor();
  await page.locator('aside [data-who=root]').last().waitFor();

  const [cookie, ...others] = await context.cookies();
  assert.deepEqual([others, cookie.httpOnly, cookie.sameSite], [[], true, 'Strict']);
  assert.ok(!cookie.value.includes(root), 'the cookie is not the token');
  const readable = await page.evaluate(() => document.cookie + JSON.stringify({ ...localStorage }) + JSON.stringify({ ...sessionStorage }) + document.documentElement.innerHTML);
  assert.ok(!readable.includes(root) && !readable.includes(cookie.value));

  await page.locator('[data-range="1"]').click();
  await page.getByRole('button', { name: 'Split' }).click();
  await page.getByRole('dialog').locator('input[name=key]').fill('orders/m');
  await page.getByRole('dialog').getByRole('button', { name: 'Split' }).click();
  await page.locator('[data-range]', { hasText: 'orders/m' }).waitFor();
  await page.goto(`${cluster.console}/data?key=orders%2F1`);
  await page.locator('[data-revision]').waitFor();
  const policy = await page.evaluate(async () => (await fetch('/router/v1/kv/orders%2F1')).headers.get('content-security-policy'));
  assert.match(policy, /sandbox/, 'a value is never run as a page');
  await page.getByRole('button', { name: 'Log out' }).last().click();
  await page.getByRole('heading', { name: 'Log in' }).waitFor();
  assert.deepEqual(await context.cookies(), []);
  await close();
});

test('whoever may only read is told so before, and loses sight when the token is revoked', async () => {
  const reader = await token({ name: 'reader', role: 'read-only' });
  const { page, close, picture } = await open('/ranges/1');
  await logIn(page, reader.token);
  await page.getByText('Live from placement-1').waitFor();
  assert.equal(await page.getByRole('button', { name: 'Split' }).isDisabled(), true);
  await page.goto(`${cluster.console}/data?key=orders%2F1`);
  await page.locator('[data-revision]').waitFor();
  await page.locator('[data-forbidden]').waitFor();
  assert.equal(await page.getByRole('button', { name: 'Delete' }).isDisabled(), true);
  await picture('read-only');
  const revoked = await fetch(`${cluster.console}/v1/tokens/${reader.id}`, { method: 'DELETE', headers: { authorization: `Bearer ${root}` } });
  assert.equal(revoked.status, 204);
  await page.getByRole('heading', { name: 'Log in' }).waitFor();
  await close();
});

test('whoever has some keys alone sees those', async () => {
  const clerk = await token({ name: 'clerk', role: 'read-write', prefixes: ['orders/'] });
  const { page, close, picture } = await open('/');
  await logIn(page, clerk.token);
  await page.locator('[data-forbidden]').waitFor();
  await picture('some-keys');
  await page.getByRole('link', { name: 'To those keys' }).click();
  await page.getByRole('treeitem', { name: '1', exact: true }).getByRole('button').click();
  await page.locator('textarea[name=value]').fill('two');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByText('is written, revision').waitFor();
  await close();
});

test('a member that was started with --insecure says so on every page', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'holdfast-console-'));
  const member = await startInsecure(join(dir, 'p'));
  const page = await browser.newPage({ viewport: { width: 1280, height: 860 } });
  try {
    for (const path of ['/', '/ranges', '/settings']) {
      await page.goto(`${member.console}${path}`);
      await page.locator('[data-insecure]').waitFor({ timeout: PATIENCE });
    }
    await page.screenshot({ path: `${OUT}insecure.png` });
    await page.goto(`${cluster.console}/`);
    await page.getByRole('heading', { name: 'Log in' }).waitFor();
    assert.equal(await page.locator('[data-insecure]').count(), 0);
  } finally {
    await page.close();
    await member.stop();
    await rm(dir, { recursive: true });
  }
});
