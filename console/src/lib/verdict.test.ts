import { expect, test } from 'vitest';
import type { Cluster, Range, Store } from './types.ts';
import { verdict } from './verdict.ts';

const cluster = (more: Partial<Cluster> = {}): Cluster => ({
  id: '1', health: 'ok', leader: 'p1', members: [], counts: { stores: 3, ranges: 1, replicas: 3, operators: 0 }, stores: { up: 3 },
  ranges: { ok: 1 }, under_replicated_ranges: 0, unknown_spans: 0, replication_factor: 3, settled: true, ...more,
});
const store = (id: number, more: Partial<Store> = {}): Store => ({
  id, name: `store-${id}`, state: 'up', labels: {}, rpc: '', http: '', capacity: { total: 100, used: 1, available: 60 }, ranges: 1, leaders: 0,
  operators: 0, last_heartbeat_age_ms: 100, drain: null, ...more,
});
const range = (state: Range['state']): Range => ({
  id: 1, start: '', end: '', epoch: { bounds: 1, membership: 1 }, replicas: [], leader_store: state === 'no_leader' ? null : 1, size_bytes: 0,
  keys: 0, reads_per_second: 0, writes_per_second: 0, state, operator_id: null,
});
const stores = [store(1), store(2), store(3)];

test('a cluster in order is said to be', () => {
  expect(verdict(cluster(), stores, [range('ok')], [])).toMatchObject({ grade: 'ok', findings: [] });
});

test('a range without a leader is worse than a store that is down', () => {
  const found = verdict(cluster(), [store(1, { state: 'down' }), store(2), store(3)], [range('no_leader')], []);
  expect(found.grade).toBe('bad');
  expect(found.findings.map((finding) => finding.grade)).toEqual(['bad', 'warn']);
});

test('a store that is silent for longer than usual is noticed before it is suspected', () => {
  const silent = (age: number) => verdict(cluster(), [store(1, { last_heartbeat_age_ms: age })], [range('ok')], []).grade;
  expect([silent(2_100), silent(2_300)]).toEqual(['ok', 'warn']);
});

test('a store that was given up for its data is told by name', () => {
  const found = verdict(cluster(), [store(1, { state: 'lost' }), store(2), store(3), store(4)], [range('ok')], []);
  expect(found).toMatchObject({ grade: 'warn', findings: [{ what: 'store-1 is lost', href: '/stores/1' }] });
});

test('a departure is told and is no fault', () => {
  const leaving = store(1, { state: 'decommissioning', drain: { leaders_left: 0, ranges_left: 4, bytes_left: 9, problems: [] } });
  expect(verdict(cluster(), [leaving], [range('ok')], [])).toMatchObject({ grade: 'unknown', findings: [{ so: '4 ranges left.' }] });
});

test('a new leading member says that it does not know yet', () => {
  expect(verdict(cluster({ settled: false }), stores, [range('no_leader')], []).grade).toBe('unknown');
});

test('disks that fill are one finding, and a full one is urgent', () => {
  const full = (available: number) => ({ capacity: { total: 100, used: 1, available } });
  const found = verdict(cluster(), [store(1, full(15)), store(2, full(12)), store(3)], [range('ok')], []);
  expect(found.findings.map((finding) => [finding.grade, finding.what])).toEqual([['warn', 'The disks of 2 stores are 88 % full']]);
  expect(verdict(cluster(), [store(1, full(5))], [range('ok')], []).grade).toBe('bad');
});

test('replicas that differ are told, with who is not as the majority', () => {
  const found = (suspects: number[]) => ({
    range_id: 7, index: 40, replicas: [1, 2, 3].map((id) => ({ replica_id: id, store_id: id, suspect: suspects.includes(id) })),
  });
  const told = (suspects: number[]) => verdict(cluster({ divergent_ranges: [found(suspects)] }), stores, [range('ok')], []);
  expect(told([3])).toMatchObject({ grade: 'bad', findings: [{ what: 'The replicas of range 7 differ', href: '/ranges/7' }] });
  expect(told([3]).findings[0]?.so).toContain('What store 3 holds is not');
  expect(told([]).findings[0]?.so).toContain('No majority');
});
