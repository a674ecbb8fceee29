// Pictures of every page, at two widths, light and dark: `node browser/shots.mjs URL DIRECTORY [PAGE…]`.
import { mkdir } from 'node:fs/promises';
import { launch } from './browser.mjs';

const PAGES = ['', 'stores', 'stores/1', 'ranges', 'ranges/1', 'heat', 'operators', 'data', 'writes', 'settings', 'reference'];
const [url = 'http://127.0.0.1:7410', directory = 'browser/out/shots', ...only] = process.argv.slice(2);

await mkdir(directory, { recursive: true });
const browser = await launch();
for (const width of [1280, 800]) {
  for (const colorScheme of ['light', 'dark']) {
    const context = await browser.newContext({ viewport: { width, height: 860 }, colorScheme });
    const page = await context.newPage();
    page.on('console', (message) => message.type() === 'error' && console.error(`${page.url()}: ${message.text()}`));
    for (const path of only.length > 0 ? only : PAGES) {
      await page.goto(`${url}/${path}`);
      await page.locator('main h1').waitFor();
      await page.evaluate(() => document.fonts.ready);
      // Charts are drawn by then, and figures have come twice.
      await page.waitForTimeout(900);
      const name = `${path.replaceAll('/', '-') || 'overview'}-${width}-${colorScheme}.png`;
      await page.screenshot({ path: `${directory}/${name}`, fullPage: false });
    }
    await context.close();
  }
}
await browser.close();
