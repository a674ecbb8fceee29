// The cluster as it changes. One stream tells everything, then what is new; a line that breaks is taken up again.

import { bytesOf, compare } from './keys.ts';
import type { About, Cluster, Config, Decision, Figures, News, Operator, Range, Store } from './types.ts';

/** Without a word for this long the line is taken for broken: the stream beats every four seconds. */
const SILENCE_MS = 10_000;
const RETRY_MS = [250, 500, 1_000, 2_000];
/** Samples that the charts show. */
const MAX_FIGURES = 450;

/** A range with its bounds as bytes, for comparing. */
export interface Placed extends Range {
  from: Uint8Array;
  /** Empty at the end of the key space. */
  to: Uint8Array;
}

interface Things {
  stores: Map<number, Store>;
  ranges: Map<number, Placed>;
  operators: Map<number, Operator>;
  decisions: Map<number, Decision>;
}

const nothing = (): Things => ({ stores: new Map(), ranges: new Map(), operators: new Map(), decisions: new Map() });

class Live {
  line = $state<'connecting' | 'open' | 'lost'>('connecting');
  lostAt = $state(0);
  /** How often it was lost. */
  losses = $state(0);
  now = $state(Date.now());
  about = $state.raw<About | null>(null);
  cluster = $state.raw<Cluster | null>(null);
  config = $state.raw<Config | null>(null);
  /** By id; those that were removed are not here. */
  stores = $state.raw<Store[]>([]);
  /** In the order of their keys. */
  ranges = $state.raw<Placed[]>([]);
  /** Latest first. */
  operators = $state.raw<Operator[]>([]);
  decisions = $state.raw<Decision[]>([]);
  figures = $state.raw<Figures[]>([]);

  readonly heartbeatMs = $derived(Number(this.config?.heartbeat_interval_ms ?? 1_000));

  #things = nothing();
  /** What a new line has told so far, while it has not told everything. */
  #arriving: Things | null = null;
  /** Ranges came, went or got other bounds since they were put in order. */
  #isUnsorted = false;
  #source: EventSource | null = null;
  #heard = 0;
  #attempts = 0;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #isPaused = true;

  /** Watches over the line, which `resume` opens. */
  start(): void {
    setInterval(() => {
      this.now = Date.now();
      if (this.#source && this.now - this.#heard > SILENCE_MS) this.#lose();
    }, 1_000);
    addEventListener('online', () => this.reopen());
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden && this.line === 'lost') this.reopen();
    });
  }

  /** Tries again now rather than in a moment. */
  reopen(): void {
    if (this.#isPaused) return;
    clearTimeout(this.#retry);
    this.#open();
  }

  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.line = 'connecting';
    this.#open();
  }

  /** Hears nothing until it is told to go on, and forgets what it knew: whoever looks next may be somebody else. */
  pause(): void {
    this.#isPaused = true;
    clearTimeout(this.#retry);
    this.#source?.close();
    this.#source = null;
    this.#things = nothing();
    this.#arriving = null;
    [this.about, this.cluster, this.config] = [null, null, null];
    [this.stores, this.ranges, this.operators, this.decisions, this.figures] = [[], [], [], [], []];
  }

  store(id: number | null | undefined): Store | undefined {
    // What is asked for by id changes with the list.
    void this.stores;
    return id === null || id === undefined ? undefined : this.#things.stores.get(id);
  }

  storeName(id: number | null | undefined): string {
    return this.store(id)?.name ?? (id === null || id === undefined ? 'nobody' : `store ${id}`);
  }

  range(id: number): Placed | undefined {
    void this.ranges;
    return this.#things.ranges.get(id);
  }

  /** The range that holds a key. */
  rangeAt(key: Uint8Array): Placed | undefined {
    let [low, high] = [0, this.ranges.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const range = this.ranges[middle];
      if (range && compare(range.from, key) <= 0) low = middle + 1;
      else high = middle;
    }
    const range = this.ranges[low - 1];
    return range && (range.to.length === 0 || compare(key, range.to) < 0) ? range : undefined;
  }

  #open(): void {
    this.#source?.close();
    this.#heard = Date.now();
    const source = new EventSource('/v1/live');
    this.#source = source;
    source.addEventListener('state', (event) => this.#hear(source, () => this.#take(JSON.parse(event.data as string) as News)));
    source.addEventListener('figures', (event) => this.#hear(source, () => this.#sample(JSON.parse(event.data as string) as Figures)));
    source.addEventListener('beat', () => this.#hear(source, () => undefined));
    source.addEventListener('error', () => {
      if (this.#source === source) this.#lose();
    });
  }

  #hear(source: EventSource, take: () => void): void {
    if (this.#source !== source) return;
    this.#heard = Date.now();
    take();
  }

  #lose(): void {
    this.#source?.close();
    this.#source = null;
    if (this.line !== 'lost') this.lostAt = Date.now();
    this.line = 'lost';
    this.losses++;
    const pause = RETRY_MS[Math.min(this.#attempts++, RETRY_MS.length - 1)];
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#open(), pause);
  }

  #take(news: News): void {
    if (news.first) this.#arriving = nothing();
    const things = this.#arriving ?? this.#things;
    if (this.#learn(things, news)) this.#isUnsorted = true;
    if (news.about) this.about = news.about;
    if (news.config) this.config = news.config;
    if (news.cluster) this.cluster = news.cluster;
    if (news.more) return;
    const isWhole = this.#arriving !== null;
    if (isWhole) {
      // What another leading member sampled says nothing of this one's.
      this.#things = things;
      this.#arriving = null;
      this.line = 'open';
      this.#attempts = 0;
    }
    const { stores, ranges, operators, decisions } = this.#things;
    if (isWhole || news.stores || news.stores_gone) {
      this.stores = [...stores.values()].filter((store) => store.state !== 'removed').sort((a, b) => a.id - b.id);
    }
    if (isWhole || news.ranges || news.ranges_gone) {
      this.ranges = isWhole || this.#isUnsorted ? [...ranges.values()].sort((a, b) => compare(a.from, b.from)) : this.ranges.map((range) => ranges.get(range.id) ?? range);
      this.#isUnsorted = false;
    }
    if (isWhole || news.operators || news.operators_gone) {
      this.operators = [...operators.values()].sort((a, b) => b.id - a.id);
    }
    if (isWhole || news.decisions || news.decisions_gone) {
      this.decisions = [...decisions.values()].sort((a, b) => b.at_ms - a.at_ms || b.id - a.id);
    }
  }

  /** Takes the news; true if ranges came, went or got other bounds. */
  #learn(things: Things, news: News): boolean {
    let isUnsorted = (news.ranges_gone?.length ?? 0) > 0;
    for (const store of news.stores ?? []) things.stores.set(store.id, store);
    for (const range of news.ranges ?? []) {
      const known = things.ranges.get(range.id);
      const isSame = (bound: 'start' | 'end'): boolean =>
        known?.[bound] === range[bound] && known[`${bound}_base64`] === range[`${bound}_base64`];
      const from = known && isSame('start') ? known.from : bytesOf(range.start, range.start_base64);
      const to = known && isSame('end') ? known.to : bytesOf(range.end, range.end_base64);
      isUnsorted ||= from !== known?.from;
      things.ranges.set(range.id, { ...range, from, to });
    }
    for (const operator of news.operators ?? []) things.operators.set(operator.id, operator);
    for (const decision of news.decisions ?? []) things.decisions.set(decision.id, decision);
    for (const id of news.stores_gone ?? []) things.stores.delete(id);
    for (const id of news.ranges_gone ?? []) things.ranges.delete(id);
    for (const id of news.operators_gone ?? []) things.operators.delete(id);
    for (const id of news.decisions_gone ?? []) things.decisions.delete(id);
    return isUnsorted;
  }

  #sample(figures: Figures): void {
    const last = this.figures.at(-1);
    // A line that was taken up again tells samples that are known.
    if (last && figures.at_ms <= last.at_ms) return;
    this.figures = [...this.figures, figures].slice(-MAX_FIGURES);
  }
}

export const live = new Live();
