// What the placement driver tells, as it tells it.

export type StoreState = 'up' | 'suspect' | 'down' | 'draining' | 'decommissioning' | 'lost' | 'removed';
export type RangeState = 'ok' | 'over' | 'under' | 'down_replica' | 'no_leader';

export interface Member {
  id: number;
  name: string;
  role: 'leader' | 'follower' | 'learner' | 'joining' | 'leaving';
  rpc: string;
  http: string;
}

export interface Cluster {
  id: string;
  health: 'ok' | 'degraded' | 'critical' | 'unknown';
  leader: string;
  members: Member[];
  counts: { stores: number; ranges: number; replicas: number; operators: number };
  stores: Partial<Record<StoreState, number>>;
  ranges: Partial<Record<RangeState, number>>;
  under_replicated_ranges: number;
  unknown_spans: number;
  divergent_ranges?: Divergence[];
  replication_factor: number;
  settled: boolean;
}

/** A range whose replicas hold different data. */
export interface Divergence {
  range_id: number;
  index: number;
  replicas: { replica_id: number; store_id: number; suspect: boolean }[];
}

export interface Leaving {
  leaders_left: number;
  ranges_left: number;
  bytes_left: number;
  problems: string[];
}

export interface Store {
  id: number;
  name: string;
  state: StoreState;
  labels: Record<string, string>;
  rpc: string;
  http: string;
  capacity: { total: number; used: number; available: number } | null;
  ranges: number;
  leaders: number;
  operators: number;
  last_heartbeat_age_ms: number | null;
  drain: Leaving | null;
}

export interface Replica {
  id: number;
  store_id: number;
  role: 'voter' | 'learner' | 'outgoing';
  lag_entries: number | null;
  live: boolean | null;
}

export interface Range {
  id: number;
  start: string;
  start_base64?: string;
  end: string;
  end_base64?: string;
  epoch: { bounds: number; membership: number };
  replicas: Replica[];
  leader_store: number | null;
  size_bytes: number;
  keys: number;
  reads_per_second: number;
  writes_per_second: number;
  state: RangeState;
  operator_id: number | null;
}

export interface Step {
  name: string;
  state: 'done' | 'running' | 'pending';
  store_id?: number;
  replica_id?: number;
  key?: string;
  key_base64?: string;
}

export interface Operator {
  id: number;
  kind: string;
  change: Record<string, unknown>;
  range_id: number;
  source: string;
  why: string;
  state: 'running' | 'done' | 'failed' | 'cancelled' | 'timed_out';
  reason: string | null;
  step: string | null;
  steps: Step[];
  progress: { done: number; total: number };
  created_ms: number;
  ended_ms: number | null;
}

export interface Decision {
  id: number;
  at_ms: number;
  times: number;
  scheduler: string;
  range_id: number;
  kind: string | null;
  change: Record<string, unknown> | null;
  why: string;
  scores: { store_id: number; score: number }[];
  verdict: 'taken' | 'rejected';
  operator_id: number | null;
  reason: string | null;
}

export interface Summary {
  count: number;
  mean: number;
  p50: number;
  p90: number;
  p99: number;
}

export interface Figures {
  at_ms: number;
  seconds: number;
  routers: number;
  traffic: { reads: number; writes: number; scans: number; failed: number; bytes_in: number; bytes_out: number };
  latency: Record<'read' | 'write' | 'scan' | 'other', Summary | null>;
  stages: Record<string, Summary | null>;
  stores: { id: number; stages: Record<string, Summary | null> }[];
}

export interface About {
  version: string;
  has_launcher: boolean;
  routers: string[];
}

export type Config = Record<string, unknown>;

/** What a `state` event tells. */
export interface News {
  first: boolean;
  more: boolean;
  at_ms: number;
  about?: About;
  cluster?: Cluster;
  config?: Config;
  stores?: Store[];
  stores_gone?: number[];
  ranges?: Range[];
  ranges_gone?: number[];
  operators?: Operator[];
  operators_gone?: number[];
  decisions?: Decision[];
  decisions_gone?: number[];
}
