// How the cluster is, in words. Pure.

import { count, duration, plural } from './format.ts';
import type { Cluster, Figures, Operator, Range, Store } from './types.ts';

export type Grade = 'ok' | 'warn' | 'bad' | 'unknown';

export interface Finding {
  grade: Grade;
  /** What is wrong. */
  what: string;
  /** What that means, or what is being done about it. */
  so: string;
  /** Where to look. */
  href: string;
}

export interface Verdict {
  grade: Grade;
  title: string;
  detail: string;
  findings: Finding[];
}

const FULL = 0.9;
const FILLING = 0.8;

export function verdict(cluster: Cluster, stores: Store[], ranges: Range[], operators: Operator[], figures?: Figures, heartbeatMs = 1_000): Verdict {
  // Beyond it one has stayed away; more, and a store that was killed would be shown later than three seconds after.
  const usualSilenceMs = heartbeatMs * 2.2;
  const findings = [
    ...divergenceFindings(cluster),
    ...rangeFindings(cluster, ranges, operators),
    ...storeFindings(stores, usualSilenceMs),
    ...memberFindings(cluster),
    ...trafficFindings(figures),
  ];
  const order: Grade[] = ['bad', 'warn', 'unknown', 'ok'];
  findings.sort((a, b) => order.indexOf(a.grade) - order.indexOf(b.grade));
  const worst = findings[0]?.grade ?? 'ok';
  if (!cluster.settled) {
    return { grade: 'unknown', title: 'Taking stock.', detail: `${cluster.leader} has just begun to lead and is hearing from the stores.`, findings };
  }
  if (worst === 'ok') {
    const up = stores.filter((store) => store.state === 'up').length;
    const detail = `${plural(cluster.counts.ranges, 'range')} on ${plural(up, 'store')}, each with ${plural(Math.min(cluster.replication_factor, up), 'replica')} and a leader.`;
    return { grade: 'ok', title: 'Everything is in order.', detail, findings };
  }
  const bad = findings.filter((finding) => finding.grade === 'bad').length;
  const told = {
    bad: ['Something is wrong.', 'What is below needs somebody now.'],
    warn: ['In order, with reservations.', 'All data can be read and written. What is below needs an eye, or heals by itself.'],
    unknown: ['In order, with work under way.', 'All data can be read and written.'],
  } as const;
  const [title, detail] = told[bad > 0 ? 'bad' : worst];
  return { grade: worst, title, detail, findings };
}

function divergenceFindings(cluster: Cluster): Finding[] {
  return (cluster.divergent_ranges ?? []).map((found) => {
    const suspects = found.replicas.filter((replica) => replica.suspect).map((replica) => replica.store_id);
    const so =
      suspects.length === 0
        ? 'No majority of them agrees.'
        : `What ${suspects.length === 1 ? 'store' : 'stores'} ${suspects.join(', ')} ${suspects.length === 1 ? 'holds' : 'hold'} is not what the majority holds.`;
    return { grade: 'bad' as const, what: `The replicas of range ${found.range_id} differ`, so: `${so} The runbook says what to do: HoldfastReplicasDiffer.`, href: `/ranges/${found.range_id}` };
  });
}

function rangeFindings(cluster: Cluster, ranges: Range[], operators: Operator[]): Finding[] {
  const findings: Finding[] = [];
  const of = (state: Range['state']) => ranges.filter((range) => range.state === state);
  const [dead, under, down] = [of('no_leader'), of('under'), of('down_replica')];
  if (cluster.counts.ranges === 0) {
    findings.push({ grade: 'bad', what: 'There is no range yet', so: 'The first store that joins gets it.', href: '/stores' });
  }
  if (dead.length > 0) {
    findings.push({
      grade: 'bad',
      what: `${plural(dead.length, 'range has', 'ranges have')} no leader`,
      so: 'Their keys can’t be read or written until a majority of their replicas is back.',
      href: dead[0] ? `/ranges/${dead[0].id}` : '/ranges',
    });
  }
  const short = new Set([...under, ...down].map((range) => range.id));
  if (short.size > 0) {
    const repairing = operators.filter((operator) => operator.state === 'running' && short.has(operator.range_id)).length;
    findings.push({
      grade: 'warn',
      what: `${plural(short.size, 'range lacks', 'ranges lack')} a replica`,
      so: repairing > 0 ? `${plural(repairing, 'repair')} under way.` : 'One more failure may stop them.',
      href: '/ranges?state=short',
    });
  }
  if (cluster.unknown_spans > 0) {
    findings.push({ grade: 'warn', what: `${plural(cluster.unknown_spans, 'part')} of the key space not known`, so: 'A split is being learnt of.', href: '/ranges' });
  }
  return findings;
}

function storeFindings(stores: Store[], usualSilenceMs: number): Finding[] {
  const findings: Finding[] = [];
  for (const store of stores) {
    const href = `/stores/${store.id}`;
    const silence = duration(store.last_heartbeat_age_ms ?? 0);
    if (store.state === 'down') {
      findings.push({ grade: 'warn', what: `${store.name} is down`, so: `Not heard of for ${silence}.`, href });
    } else if (store.state === 'lost') {
      findings.push({ grade: 'warn', what: `${store.name} is lost`, so: 'Its data was given up, and what it held is brought to other stores.', href });
    } else if (store.state === 'suspect' || (store.state === 'up' && (store.last_heartbeat_age_ms ?? 0) >= usualSilenceMs)) {
      findings.push({ grade: 'warn', what: `${store.name} is silent`, so: `Not heard of for ${silence}.`, href });
    } else if (store.state === 'draining' || store.state === 'decommissioning') {
      const left = store.drain;
      const so = left === null ? '' : store.state === 'draining' ? `${plural(left.leaders_left, 'leadership')} left.` : `${plural(left.ranges_left, 'range')} left.`;
      findings.push({ grade: left && left.problems.length > 0 ? 'warn' : 'unknown', what: `${store.name} is ${store.state}`, so: left?.problems[0] ?? so, href });
    }
  }
  return [...findings, ...diskFindings(stores)];
}

/** One for all of them: stores that share a disk fill it together. */
function diskFindings(stores: Store[]): Finding[] {
  const fullness = (store: Store): number => (store.capacity && store.capacity.total > 0 ? 1 - store.capacity.available / store.capacity.total : 0);
  const filling = stores.filter((store) => store.state !== 'down' && fullness(store) >= FILLING);
  if (filling.length === 0) return [];
  const most = Math.max(...filling.map(fullness));
  const whose = filling.length === 1 ? `${filling[0]?.name}’s disk is` : `The disks of ${count(filling.length)} stores are`;
  return [
    {
      grade: most >= FULL ? 'bad' : 'warn',
      what: `${whose} ${Math.floor(most * 100)} % full`,
      so: 'Writes are refused when next to nothing is left.',
      href: filling.length === 1 ? `/stores/${filling[0]?.id}` : '/stores',
    },
  ];
}

function memberFindings(cluster: Cluster): Finding[] {
  const joining = cluster.members.filter((member) => member.role === 'joining' || member.role === 'learner');
  return joining.map((member) => ({
    grade: 'unknown' as const,
    what: `${member.name} has no vote yet`,
    so: 'It is catching up with the other placement members.',
    href: '/settings',
  }));
}

function trafficFindings(figures?: Figures): Finding[] {
  const failed = figures?.traffic.failed ?? 0;
  if (failed < 0.05) return [];
  return [{ grade: 'warn', what: `${count(Math.max(1, failed))} requests a second fail`, so: 'Routers refuse them or can’t reach a leader.', href: '/writes' }];
}
