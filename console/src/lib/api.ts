// Requests to the member that served this page. What goes wrong is a `Problem`, in the cluster's own words.

export interface Document {
  title: string;
  status: number;
  detail: string;
  code: string;
  retryable: boolean;
  request_id?: string;
}

export class Problem extends Error {
  readonly document: Document;

  constructor(document: Document) {
    super(document.detail || document.title);
    this.document = document;
  }
}

const UNREACHABLE: Document = {
  title: 'No answer',
  status: 0,
  detail: 'The placement member that served this page does not answer.',
  code: 'unreachable',
  retryable: true,
};

/** Told when an answer says that whoever asks is not known (any more). */
let stranger = (): void => undefined;

export function whenStranger(act: () => void): void {
  stranger = act;
}

/** The answer, if it is one of success or of the `expected` statuses. */
export async function request(path: string, init: RequestInit = {}, expected: number[] = []): Promise<Response> {
  let response: Response;
  try {
    const headers = new Headers(init.headers);
    // A session's cookie counts with this alone: the page of another site can't send it.
    headers.set('x-holdfast-console', '1');
    response = await fetch(path, { ...init, headers });
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new Problem(UNREACHABLE);
  }
  if (response.ok || expected.includes(response.status)) return response;
  if (response.status === 401 && path !== '/v1/session') stranger();
  throw new Problem(await documentOf(response));
}

async function documentOf(response: Response): Promise<Document> {
  const text = await response.text();
  const plain: Document = {
    title: response.statusText || 'The request failed',
    status: response.status,
    detail: text.slice(0, 400),
    code: `status_${response.status}`,
    retryable: false,
  };
  try {
    const said: unknown = JSON.parse(text);
    if (typeof said !== 'object' || said === null) return plain;
    const { error, ...rest } = said as Partial<Document> & { error?: string };
    return { ...plain, detail: error ?? plain.detail, ...rest };
  } catch {
    return plain;
  }
}

export async function get<T>(path: string, init?: RequestInit): Promise<T> {
  return (await (await request(path, init)).json()) as T;
}

export async function post<T>(path: string, body?: unknown): Promise<T> {
  const init: RequestInit = { method: 'POST' };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { 'content-type': 'application/json' };
  }
  return (await (await request(path, init)).json()) as T;
}

export async function patch<T>(path: string, body: unknown): Promise<T> {
  const headers = { 'content-type': 'application/merge-patch+json' };
  return (await (await request(path, { method: 'PATCH', headers, body: JSON.stringify(body) })).json()) as T;
}

export async function remove<T>(path: string): Promise<T> {
  return (await (await request(path, { method: 'DELETE' })).json()) as T;
}
