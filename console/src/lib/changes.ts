// What an operator can have done to stores and ranges: each asks first, and says what will happen.

import { asking, attempt, type Fact } from './ask.svelte.ts';
import { post, remove } from './api.ts';
import { bytes, plural, words } from './format.ts';
import { inBody, read, show } from './keys.ts';
import { launcher } from './launcher.svelte.ts';
import { live, type Placed } from './live.svelte.ts';
import type { Operator, Store } from './types.ts';

interface Plan {
  possible: boolean;
  problems: string[];
  ranges: number;
  leaders: number;
  size_bytes: number;
  moves: { range_id: number; to_store: number; size_bytes: number }[];
  shared_zones: unknown[] | number;
}

async function planned(store: Store, verb: 'drain' | 'decommission'): Promise<{ facts: Fact[]; isPossible: boolean }> {
  const plan = await post<Plan>(`/v1/stores/${store.id}/${verb}?dry_run=true`);
  const facts: Fact[] = plan.problems.map((text) => ({ text, grade: 'bad' }));
  facts.push({ text: `${plural(plan.leaders, 'leadership')} will go to other stores; clients notice a moment’s delay at most.` });
  if (verb === 'decommission') {
    facts.push({ text: `${plural(plan.ranges, 'replica')} with ${bytes(plan.size_bytes)} will be copied to other stores, then removed here.` });
    const to = new Map<number, number>();
    for (const move of plan.moves) to.set(move.to_store, (to.get(move.to_store) ?? 0) + 1);
    for (const [id, n] of to) facts.push({ text: `${plural(n, 'replica')} → ${live.storeName(id)}` });
    const shared = Array.isArray(plan.shared_zones) ? plan.shared_zones.length : plan.shared_zones;
    if (shared > 0) facts.push({ text: `${plural(shared, 'range')} will have two replicas in one zone.`, grade: 'warn' });
    facts.push({ text: 'Then the store leaves the cluster for good. Until then this can be taken back.' });
  } else {
    facts.push({ text: 'Its replicas stay and keep voting. Take it back with Resume.' });
  }
  return { facts, isPossible: plan.possible };
}

export function drain(store: Store): void {
  asking.ask({
    title: `Drain ${store.name}?`,
    facts: () => planned(store, 'drain'),
    confirm: 'Drain',
    act: async () => {
      await post(`/v1/stores/${store.id}/drain`);
      return `${store.name} is being drained.`;
    },
  });
}

export function decommission(store: Store): void {
  asking.ask({
    title: `Decommission ${store.name}?`,
    facts: () => planned(store, 'decommission'),
    confirm: 'Decommission',
    isDangerous: true,
    act: async () => {
      await post(`/v1/stores/${store.id}/decommission`);
      return `${store.name} gives its data away and then leaves.`;
    },
  });
}

export async function resume(store: Store): Promise<string> {
  await post(`/v1/stores/${store.id}/resume`);
  return `${store.name} is in service again.`;
}

export function stop(name: string, store?: Store): void {
  const facts: Fact[] = [{ text: `The process of ${name} ends in order. It can be started again here.` }];
  if (store) {
    const alone = live.ranges.filter((range) => range.replicas.length === 1 && range.replicas[0]?.store_id === store.id).length;
    facts.push({ text: `${plural(store.leaders, 'range')} led by it get another leader; ${plural(store.ranges, 'range')} will lack a replica meanwhile.` });
    if (alone > 0) facts.push({ text: `${plural(alone, 'range')} live there alone and can’t be used meanwhile.`, grade: 'bad' });
    const others = live.stores.filter((other) => other.id !== store.id && other.state !== 'up').length;
    if (others > 0) facts.push({ text: `${plural(others, 'other store is', 'other stores are')} not up: ranges may lose their majority.`, grade: 'bad' });
  } else if (launcher.node(name)?.role === 'placement') {
    const members = live.cluster?.members.length ?? 1;
    facts.push(
      members > 1
        ? { text: 'Another placement member takes over. Reads and writes go on.' }
        : { text: 'It is the only placement member: this page loses its connection, and nobody is left to start it from here. Reads and writes go on.', grade: 'bad' },
    );
  } else {
    facts.push({ text: 'Clients of this router lose their connections.', grade: 'warn' });
  }
  asking.ask({
    title: `Stop ${name}?`,
    facts,
    confirm: 'Stop',
    isDangerous: true,
    act: async () => {
      await launcher.change('stop', name);
      return `${name} has stopped.`;
    },
  });
}

export async function start(name: string): Promise<string> {
  await launcher.change('start', name);
  return `${name} was started.`;
}

export function removeStore(store: Store): void {
  asking.ask({
    title: `Remove ${store.name} and its data?`,
    facts: async () => {
      const { facts, isPossible } = await planned(store, 'decommission');
      facts.push({ text: 'Once it has left, its process is stopped and its directory deleted.', grade: 'warn' });
      return { facts, isPossible };
    },
    confirm: 'Remove',
    isDangerous: true,
    typed: store.name,
    act: async () => {
      // This lasts for as long as there is data to copy; how far it is, the page shows.
      void attempt(async () => {
        await launcher.change('delete', store.name);
        return `${store.name} has left, and its directory is gone.`;
      });
      return `${store.name} gives its data away.`;
    },
  });
}

export function addStore(): void {
  const taken = new Set(launcher.nodes.map((node) => node.node_id));
  let n = 1;
  while (taken.has(`store-${n}`)) n++;
  asking.ask({
    title: 'Add a store',
    facts: [{ text: 'A new process on this machine joins the cluster. Replicas and leaderships are moved to it as balance asks for it.' }],
    inputs: [{ name: 'name', label: 'Name', kind: 'text', value: `store-${n}`, hint: 'Letters, digits, - and _' }],
    confirm: 'Add',
    act: async ({ name = '' }) => {
      await launcher.add(name.trim());
      return `${name} has joined.`;
    },
  });
}

const begun = (operator: Operator): string => `Operator ${operator.id} (${words(operator.kind)}) on range ${operator.range_id} has begun.`;

/** From here to there, for people. */
export function spanOf(range: Placed): string {
  const [from, to] = [range.from.length ? show(range.from) : 'the first key', range.to.length ? show(range.to) : 'the last'];
  return `${from} … ${to}`;
}

export function split(range: Placed): void {
  asking.ask({
    title: `Split range ${range.id}?`,
    facts: [
      { text: `It holds ${spanOf(range)}: ${plural(range.keys, 'key')}, ${bytes(range.size_bytes)}.` },
      { text: 'No data moves: both parts stay on the same stores, each a range of its own.' },
    ],
    inputs: [
      {
        name: 'key',
        label: 'First key of the right part',
        kind: 'text',
        value: '',
        placeholder: 'the middle of its data',
        hint: 'Leave it empty to split at the middle. \\xNN is a byte.',
        optional: true,
      },
    ],
    confirm: 'Split',
    act: async ({ key = '' }) => {
      const body = key === '' ? { range_id: range.id } : inBody(read(key));
      return begun(await post<Operator>('/v1/ranges/split', body));
    },
  });
}

export function merge(range: Placed): void {
  const next = live.ranges[live.ranges.findIndex((other) => other.id === range.id) + 1];
  if (!next) return;
  asking.ask({
    title: `Merge range ${range.id} with range ${next.id}?`,
    facts: [
      { text: `Range ${next.id} (${spanOf(next)}) ends, and range ${range.id} takes its keys.` },
      { text: `The result has about ${bytes(range.size_bytes + next.size_bytes)} and ${plural(range.keys + next.keys, 'key')}.` },
      { text: 'Where their replicas are not on the same stores, they are moved together first.' },
    ],
    confirm: 'Merge',
    act: async () => begun(await post<Operator>(`/v1/ranges/${range.id}/merge`)),
  });
}

export function move(range: Placed): void {
  const holders = range.replicas.map((replica) => replica.store_id);
  const free = live.stores.filter((store) => !holders.includes(store.id) && store.state === 'up');
  if (free.length === 0) {
    asking.complain(new Error('Every store that is up has a replica of this range already: there is nowhere to move one.'));
    return;
  }
  asking.ask({
    title: `Move a replica of range ${range.id}`,
    facts: [{ text: `${bytes(range.size_bytes)} are copied; the old replica goes once the new one votes.` }],
    inputs: [
      { name: 'from', label: 'From', kind: 'select', value: String(holders[0]), choices: holders.map((id) => ({ value: String(id), label: live.storeName(id) })) },
      { name: 'to', label: 'To', kind: 'select', value: String(free[0]?.id), choices: free.map((store) => ({ value: String(store.id), label: store.name })) },
    ],
    confirm: 'Move',
    act: async ({ from, to }) =>
      begun(await post<Operator>(`/v1/ranges/${range.id}/move`, { from_store: Number(from), to_store: Number(to) })),
  });
}

export function transfer(range: Placed): void {
  const voters = range.replicas.filter((replica) => replica.role === 'voter' && replica.store_id !== range.leader_store);
  if (voters.length === 0) {
    asking.complain(new Error('No other replica of this range has a vote: there is nobody to lead it instead.'));
    return;
  }
  asking.ask({
    title: `Hand over the leadership of range ${range.id}`,
    facts: [{ text: `${live.storeName(range.leader_store)} leads it. Writes wait for a moment while it hands over.` }],
    inputs: [
      {
        name: 'to',
        label: 'To',
        kind: 'select',
        value: String(voters[0]?.store_id),
        choices: voters.map((voter) => ({ value: String(voter.store_id), label: live.storeName(voter.store_id) })),
      },
    ],
    confirm: 'Hand over',
    act: async ({ to }) => begun(await post<Operator>(`/v1/ranges/${range.id}/transfer-leader`, { to_store: Number(to) })),
  });
}

export function scatter(range: Placed): void {
  asking.ask({
    title: `Scatter range ${range.id}?`,
    facts: [{ text: 'Its replicas and its leader are placed anew, wherever there is least to do.' }],
    confirm: 'Scatter',
    act: async () => begun(await post<Operator>(`/v1/ranges/${range.id}/scatter`)),
  });
}

export function cancel(operator: Operator): void {
  asking.ask({
    title: `Cancel operator ${operator.id}?`,
    facts: [{ text: `The ${words(operator.kind)} of range ${operator.range_id} stops where it is. What was done stays, and the range stays usable.` }],
    confirm: 'Cancel the operator',
    isDangerous: true,
    act: async () => {
      await remove(`/v1/operators/${operator.id}`);
      return `Operator ${operator.id} was cancelled.`;
    },
  });
}

export function leadPlacement(name: string): void {
  asking.ask({
    title: `Make ${name} the leading placement member?`,
    facts: [{ text: 'It takes over within a second. Reads and writes do not notice.' }],
    confirm: 'Hand over',
    act: async () => {
      await post('/v1/placement/transfer-leader', { to: name });
      return `${name} leads now.`;
    },
  });
}

