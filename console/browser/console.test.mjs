// The console in a browser, on a cluster of real processes. Pictures of what was seen are left in browser/out.
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { launch } from './browser.mjs';
import { startCluster } from './cluster.mjs';
import { serve } from './fake.mjs';

const OUT = new URL('out/', import.meta.url).pathname;
/** Long enough for anything that is going to happen at all. */
const PATIENCE = 30_000;
/** What a router or placement member of this version may not serve yet; the page says so. */
const ABSENT = ['/v1/heatmap', '/router/openapi.json'];

let cluster;
let browser;

before(async () => {
  await mkdir(OUT, { recursive: true });
  [cluster, browser] = await Promise.all([startCluster(4), launch()]);
  const words = ['apple', 'birch', 'cedar', 'maple', 'olive', 'willow'];
  for (const word of words) {
    const put = await fetch(`${cluster.router}/v1/kv/tree%2F${word}`, { method: 'PUT', body: JSON.stringify({ name: word, rings: word.length }) });
    assert.equal(put.status, 201);
  }
});

after(async () => {
  await browser?.close();
  await cluster?.stop();
});

/** A page whose every word of trouble is kept: what the browser logs as an error fails the test. */
async function open(path, allowed = []) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 } });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const errors = [];
  page.on('pageerror', (error) => errors.push(String(error)));
  page.on('console', (message) => {
    if (message.type() !== 'error') return;
    const text = `${message.text()} ${message.location().url}`;
    if (![...ABSENT, ...allowed].some((known) => text.includes(known))) errors.push(text);
  });
  await page.goto(`${cluster.console}${path}`);
  await page.locator('main h1').waitFor();
  const close = async () => {
    assert.deepEqual(errors, []);
    await context.close();
  };
  return { page, close, picture: (name) => page.screenshot({ path: `${OUT}${name}.png` }) };
}

const dialog = (page) => page.getByRole('dialog');
const row = (page, store) => page.locator(`[data-store="${store}"]`);

test('every page has its title, is live and says nothing wrong', async () => {
  const pages = { '': /./, stores: 'Stores', ranges: 'Ranges', heat: 'Heat map', operators: 'Operators and decisions', data: 'Data', writes: 'Write pipeline', settings: 'Settings', reference: 'API' };
  const { page, close, picture } = await open('/');
  for (const [path, title] of Object.entries(pages)) {
    await page.locator(`nav a[href="/${path}"]`).click();
    await page.waitForURL(`${cluster.console}/${path}`);
    await page.locator('main h1', { hasText: title }).waitFor();
    await page.getByText('Live from placement-1').waitFor();
    await picture(path || 'overview');
  }
  await close();
});

test('a page is there by its address, and the browser keeps hashed files for good', async () => {
  const { page, close } = await open('/settings');
  await page.locator('label', { hasText: 'replication factor' }).waitFor();
  const script = await page.evaluate(() => document.querySelector('script[type=module]').src);
  const [own, missing] = [await fetch(script), await fetch(`${cluster.console}/assets/none.js`)];
  assert.match(own.headers.get('cache-control'), /immutable/);
  assert.match(own.headers.get('content-type'), /javascript/);
  assert.equal(missing.status, 404);
  await close();
});

test('keys lead to pages, and the list of keys says so', async () => {
  const { page, close } = await open('/');
  await page.keyboard.press('?');
  await page.getByRole('heading', { name: 'Keys' }).waitFor();
  await page.keyboard.press('Escape');
  await page.keyboard.press('g');
  await page.keyboard.press('r');
  await page.waitForURL(`${cluster.console}/ranges`);
  await page.keyboard.press('/');
  assert.equal(await page.evaluate(() => document.activeElement?.getAttribute('type')), 'search');
  await close();
});

test('a range is split by a click', async () => {
  const { page, close, picture } = await open('/ranges');
  await page.locator('[data-range="1"]').click();
  await page.getByRole('button', { name: 'Split' }).click();
  await dialog(page).locator('input[name=key]').fill('tree/m');
  await picture('split-asked');
  await dialog(page).getByRole('button', { name: 'Split' }).click();
  await page.locator('[data-range]', { hasText: 'tree/m' }).waitFor();
  await page.getByRole('searchbox').fill('tree/olive');
  await page.keyboard.press('Enter');
  await page.getByLabel('About range').getByText('tree/m', { exact: true }).waitFor();
  await picture('split-done');
  await close();
});

test('a store is stopped, is missed, and is started again', async () => {
  const { page, close, picture } = await open('/stores');
  await row(page, 'store-2').getByRole('button', { name: 'Stop' }).click();
  await dialog(page).getByText('will lack a replica meanwhile').waitFor();
  await dialog(page).getByRole('button', { name: 'Stop' }).click();
  await row(page, 'store-2').getByRole('button', { name: 'Start' }).waitFor();
  await page.locator('nav a[href="/"]').click();
  await page.getByText('store-2 is silent').waitFor();
  await picture('store-silent');
  await page.locator('nav a[href="/stores"]').click();
  await row(page, 'store-2').getByRole('button', { name: 'Start' }).click();
  await row(page, 'store-2').getByRole('button', { name: 'Stop' }).waitFor();
  await row(page, 'store-2').getByText('up', { exact: true }).waitFor();
  await page.locator('nav a[href="/"]').click();
  await page.getByText('store-2 is silent').waitFor({ state: 'detached' });
  await close();
});

test('a decommission is watched to its end, and its plan is shown before', async () => {
  const { page, close, picture } = await open('/stores');
  await row(page, 'store-4').getByRole('button', { name: 'Decommission' }).click();
  await dialog(page).getByText('will be copied to other stores').waitFor();
  await picture('decommission-asked');
  await dialog(page).getByRole('button', { name: 'Decommission' }).click();
  await row(page, 'store-4').waitFor({ state: 'detached' });
  await page.getByText('3 of 3 stores up').waitFor();
  await picture('decommission-done');
  await close();
});

test('a store is added, and removed with its directory', async () => {
  const { page, close } = await open('/stores');
  await page.getByRole('button', { name: 'Add a store' }).click();
  await dialog(page).locator('input[name=name]').fill('node5');
  await dialog(page).getByRole('button', { name: 'Add' }).click();
  await row(page, 'node5').getByRole('link', { name: 'node5' }).click();
  await page.getByRole('button', { name: 'Remove with its data' }).click();
  const confirm = dialog(page).getByRole('button', { name: 'Remove' });
  assert.equal(await confirm.isDisabled(), true, 'its name has to be typed first');
  await dialog(page).locator('input[name=typed]').fill('node5');
  await confirm.click();
  await page.getByText('its directory is gone').waitFor();
  await row(page, 'node5').waitFor({ state: 'detached' });
  const { nodes } = await (await fetch(`${cluster.control}/nodes`)).json();
  assert.ok(!nodes.some((node) => node.node_id === 'node5'), 'the launcher has forgotten it');
  await close();
});

test('a key edited in two tabs: the second is told that somebody was faster', async () => {
  // A condition that does not hold is answered with 412, which the browser logs.
  const [first, second] = [await open('/data?key=tree%2Fcedar'), await open('/data?key=tree%2Fcedar', ['412'])];
  for (const { page } of [first, second]) await page.locator('[data-revision]').waitFor();
  await first.page.locator('textarea[name=value]').fill('{"name":"cedar","rings":6}');
  await first.page.getByRole('button', { name: 'Save' }).click();
  await first.page.getByText('is written, revision').waitFor();
  await second.page.locator('textarea[name=value]').fill('{"name":"cedar","rings":7}');
  await second.page.getByRole('button', { name: 'Save' }).click();
  await second.page.locator('[data-conflict]').waitFor();
  await second.picture('conflict');
  const kept = await (await fetch(`${cluster.router}/v1/kv/tree%2Fcedar`)).text();
  assert.equal(JSON.parse(kept).rings, 6, 'nothing was written over it');
  await second.page.getByRole('button', { name: 'Show theirs' }).click();
  await second.page.waitForFunction(() => document.querySelector('textarea')?.value.includes('6'));
  await first.close();
  await second.close();
});

test('a key is created with bytes and a time to live, seen in the tree, and deleted', async () => {
  const { page, close } = await open('/data');
  await page.locator('input[name=new-key]').fill('bin/\\xff');
  await page.getByRole('button', { name: 'Create' }).click();
  await page.getByRole('tab', { name: 'Hex' }).click();
  await page.locator('textarea[name=value]').fill('00 ff 10');
  await page.locator('input[name=ttl]').fill('3600');
  await page.locator('textarea[name=value]').locator('xpath=..').getByRole('button', { name: 'Create' }).click();
  await page.getByText('is written, revision').waitFor();
  const stored = new Uint8Array(await (await fetch(`${cluster.router}/v1/kv/bin%2F%FF`)).arrayBuffer());
  assert.deepEqual([...stored], [0, 255, 16]);
  await page.getByRole('button', { name: 'bin/', exact: true }).click();
  await page.getByRole('treeitem', { name: '\\xff' }).waitFor();
  await page.getByRole('button', { name: 'Delete' }).click();
  await dialog(page).getByRole('button', { name: 'Delete' }).click();
  await page.getByText('is deleted.').waitFor();
  assert.equal((await fetch(`${cluster.router}/v1/kv/bin%2F%FF`)).status, 404);
  await close();
});

test('a setting is changed, and one that makes no sense is refused in the cluster’s own words', async () => {
  const { page, close } = await open('/settings', ['400']);
  await page.getByRole('switch', { name: 'balance leaders' }).click();
  await page.getByText('balance leaders is off.').waitFor();
  await page.getByLabel('replication factor').fill('0');
  await page.getByRole('button', { name: 'Change 1' }).click();
  await dialog(page).getByRole('button', { name: 'Change' }).click();
  await dialog(page).getByText('replication_factor must be 1 to 7').waitFor();
  await dialog(page).getByRole('button', { name: 'Leave it' }).click();
  const config = await (await fetch(`${cluster.console}/v1/config`)).json();
  assert.deepEqual([config.replication_factor, config.schedulers.balance_leaders], [3, false]);
  await close();
});

test('a lost connection is shown, and heals', async () => {
  // Nobody listens, and then somebody who does not lead yet.
  const { page, close, picture } = await open('/stores', ['ERR_', '503']);
  await fetch(`${cluster.control}/stop/placement-1`, { method: 'POST' });
  await page.locator('aside').getByText('Connection lost').last().waitFor();
  await picture('lost');
  await fetch(`${cluster.control}/start/placement-1`, { method: 'POST' });
  await page.getByText('Live from placement-1').waitFor();
  await row(page, 'store-1').getByText('up', { exact: true }).waitFor();
  await close();
});

test('thousands of ranges: few rows are made, and a key’s range is found', async () => {
  const fake = await serve(3_000, 100);
  const page = await browser.newPage();
  try {
    await page.goto(`${fake.url}/ranges`);
    await page.getByText('3,000 ranges tile the key space').waitFor();
    await page.getByRole('searchbox').fill('table/002244');
    await page.keyboard.press('Enter');
    await page.getByLabel('About range 2245').waitFor();
    await page.locator('[data-range="2245"]').waitFor();
    assert.ok((await page.locator('[data-range]').count()) < 60, 'only what can be seen is made');
    await page.screenshot({ path: `${OUT}thousands.png` });
  } finally {
    await page.close();
    fake.close();
  }
});
