// A colour for each store, the same on every page.

const COLOURS = 8;

/** The name of a colour of the theme. */
export function storeColour(id: number): string {
  return `s${(id - 1) % COLOURS}`;
}
