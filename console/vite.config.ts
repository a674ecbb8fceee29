import { svelte } from '@sveltejs/vite-plugin-svelte';
import tailwind from '@tailwindcss/vite';
import { defineConfig } from 'vite';

// While the console is worked on, a cluster of `holdfast up` answers. It refuses what comes from another site, so the page is
// where it says that it is.
const cluster = process.env.HOLDFAST_PLACEMENT ?? 'http://127.0.0.1:7410';

export default defineConfig({
  plugins: [tailwind(), svelte()],
  build: {
    target: ['chrome111', 'firefox114', 'safari16.4'],
    // Everything is a file: the page's policy allows no data: address.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  server: {
    proxy: Object.fromEntries(
      ['/v1', '/api', '/router', '/openapi.json', '/metrics', '/health', '/ready'].map((path) => [path, { target: cluster, changeOrigin: false }]),
    ),
  },
});
