// Who looks at the console, and what that one may do. The token is sent once, for a cookie that no script can read: it is never
// kept here. What is not permitted is the cluster's to refuse; the page only says so before.

import { get, request, whenStranger } from './api.ts';

export interface Who {
  /** Whether the cluster asks for credentials. */
  required: boolean;
  /** Whether it was started with `--insecure`. */
  insecure: boolean;
  name: string | null;
  role: 'admin' | 'read-write' | 'read-only' | null;
  prefixes: string[];
  expires_ms: number | null;
  may: { read: boolean; write: boolean; administer: boolean };
}

const EVERYTHING = { read: true, write: true, administer: true };

class Session {
  who = $state.raw<Who | null>(null);
  /** Whether the answer to who that is has come, or will not. */
  isAsked = $state(false);

  /** Until it is known, the cluster decides. */
  readonly may = $derived(this.who?.may ?? EVERYTHING);
  readonly isNeeded = $derived(this.who !== null && this.who.required && this.who.name === null);
  /** For buttons of administration. */
  readonly admin = $derived(this.may.administer ? {} : { disabled: true, title: 'Your credential does not allow this: it takes an admin\u2019s.' });
  /** Where whoever may not see every key begins to look. */
  readonly home = $derived(this.may.read ? '' : (this.who?.prefixes[0] ?? ''));

  constructor() {
    whenStranger(() => void this.refresh());
  }

  async refresh(): Promise<void> {
    try {
      this.who = await get<Who>('/v1/session');
    } catch {
      // A member that does not answer says nothing about who that is.
    }
    this.isAsked = true;
  }

  async open(token: string): Promise<void> {
    const headers = { 'content-type': 'application/json' };
    const answer = await request('/v1/session', { method: 'POST', headers, body: JSON.stringify({ token }) });
    this.who = (await answer.json()) as Who;
  }

  async close(): Promise<void> {
    await request('/v1/session', { method: 'DELETE' });
    // Nothing that was shown is kept for whoever comes next.
    location.assign('/');
  }
}

export const session = new Session();
