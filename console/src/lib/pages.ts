// The pages, in the order in which they are listed, each with the key that leads there after a `g`.

export const PAGES = [
  { path: '/', name: 'Overview', key: 'o' },
  { path: '/stores', name: 'Stores', key: 's' },
  { path: '/ranges', name: 'Ranges', key: 'r' },
  { path: '/heat', name: 'Heat map', key: 'h' },
  { path: '/operators', name: 'Operators', key: 'p' },
  { path: '/data', name: 'Data', key: 'd' },
  { path: '/writes', name: 'Write pipeline', key: 'w' },
  { path: '/settings', name: 'Settings', key: 'c' },
  { path: '/reference', name: 'API', key: 'a' },
] as const;
