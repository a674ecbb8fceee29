// Light or dark: as the system has it, until somebody says otherwise.

export type Choice = 'system' | 'light' | 'dark';

const KEY = 'holdfast.theme';
const system = matchMedia('(prefers-color-scheme: dark)');

class Theme {
  choice = $state<Choice>(read());
  systemIsDark = $state(system.matches);
  readonly isDark = $derived(this.choice === 'dark' || (this.choice === 'system' && this.systemIsDark));

  constructor() {
    system.addEventListener('change', () => {
      this.systemIsDark = system.matches;
      this.apply();
    });
  }

  apply(): void {
    document.documentElement.dataset.theme = this.isDark ? 'dark' : 'light';
  }

  next(): void {
    this.choice = this.choice === 'system' ? (this.systemIsDark ? 'light' : 'dark') : this.choice === 'dark' ? 'light' : 'dark';
    try {
      localStorage.setItem(KEY, this.choice);
    } catch {
      // A browser that keeps nothing forgets this too.
    }
    this.apply();
  }
}

function read(): Choice {
  try {
    const kept = localStorage.getItem(KEY);
    return kept === 'light' || kept === 'dark' ? kept : 'system';
  } catch {
    return 'system';
  }
}

export const theme = new Theme();

/** A colour of the theme, for what is drawn rather than styled. */
export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
