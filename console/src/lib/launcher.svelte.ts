// The processes, where a launcher runs them: `holdfast up`.

import { get, post } from './api.ts';
import { live } from './live.svelte.ts';
import { session } from './session.svelte.ts';

export interface Node {
  node_id: string;
  role: 'placement' | 'store' | 'router';
  id: number | null;
  pid: number | null;
  http: string;
  data_dir: string | null;
  state: 'running' | 'stopped' | 'exited';
  status: 'online' | 'offline';
}

class Launcher {
  nodes = $state.raw<Node[]>([]);
  error = $state<string | null>(null);
  #asked = 0;

  readonly isThere = $derived(live.about?.has_launcher === true);

  node(name: string): Node | undefined {
    return this.nodes.find((node) => node.node_id === name);
  }

  async refresh(): Promise<void> {
    // Processes are an admin's to see.
    if (!this.isThere || !session.may.administer) return;
    const turn = ++this.#asked;
    try {
      const { nodes } = await get<{ nodes: Node[] }>('/api/control/nodes');
      if (turn !== this.#asked) return;
      this.nodes = nodes;
      this.error = null;
    } catch (error) {
      if (turn === this.#asked) this.error = error instanceof Error ? error.message : String(error);
    }
  }

  async change(action: 'start' | 'stop' | 'delete', name: string): Promise<void> {
    try {
      await post(`/api/control/${action}/${encodeURIComponent(name)}`);
    } finally {
      await this.refresh();
    }
  }

  async add(name: string): Promise<void> {
    try {
      await post('/api/control/add', { node_id: name });
    } finally {
      await this.refresh();
    }
  }
}

export const launcher = new Launcher();
