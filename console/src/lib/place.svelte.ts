// Which page is shown: the path. Links are links; a click on one of ours changes the page without loading it.

class Place {
  path = $state(location.pathname);
  query = $state(new URLSearchParams(location.search));
  readonly page = $derived(this.path.split('/')[1] ?? '');
  readonly item = $derived(this.path.split('/')[2] ?? '');

  constructor() {
    addEventListener('popstate', () => this.#read());
    document.addEventListener('click', (event) => {
      const link = event.target instanceof Element ? event.target.closest('a') : null;
      const isOurs = link && link.origin === location.origin && !link.target && !link.hasAttribute('download') && !link.dataset.outside;
      if (!isOurs || event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      this.go(link.pathname + link.search);
    });
  }

  go(to: string): void {
    if (to !== location.pathname + location.search) history.pushState(null, '', to);
    this.#read();
  }

  /** The same page, seen otherwise: nothing to go back to. */
  replace(to: string): void {
    history.replaceState(null, '', to);
    this.#read();
  }

  #read(): void {
    this.path = location.pathname;
    this.query = new URLSearchParams(location.search);
  }
}

export const place = new Place();
