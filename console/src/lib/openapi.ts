// An OpenAPI description as a list of what can be asked. Pure.

interface Parameter {
  name?: string;
  in?: string;
  required?: boolean;
  description?: string;
  schema?: { type?: string; example?: unknown };
  $ref?: string;
}

interface Operation {
  summary?: string;
  description?: string;
  parameters?: Parameter[];
  requestBody?: { content?: Record<string, { example?: unknown; schema?: { example?: unknown } }> };
  responses?: Record<string, { description?: string; $ref?: string }>;
}

export interface OpenApi {
  paths?: Record<string, Record<string, unknown>>;
  components?: { parameters?: Record<string, Parameter>; responses?: Record<string, { description?: string }> };
}

export interface Described {
  method: string;
  path: string;
  summary: string;
  description: string;
  parameters: { name: string; in: string; required: boolean; description: string; type: string }[];
  responses: { status: string; description: string }[];
  curl: (base: string) => string;
}

const METHODS = ['get', 'head', 'put', 'post', 'patch', 'delete'];

export function operationsOf(document: OpenApi): Described[] {
  const found: Described[] = [];
  for (const [path, item] of Object.entries(document.paths ?? {})) {
    const shared = (item.parameters ?? []) as Parameter[];
    for (const method of METHODS) {
      const operation = item[method] as Operation | undefined;
      if (operation) found.push(described(document, path, method, operation, shared));
    }
  }
  return found;
}

function described(document: OpenApi, path: string, method: string, operation: Operation, shared: Parameter[]): Described {
  const last = (ref: string): string => ref.split('/').at(-1) ?? '';
  const parameters = [...shared, ...(operation.parameters ?? [])].map((one) => {
    const parameter = one.$ref ? (document.components?.parameters?.[last(one.$ref)] ?? {}) : one;
    return {
      name: parameter.name ?? '',
      in: parameter.in ?? '',
      required: parameter.required === true,
      description: parameter.description ?? '',
      type: parameter.schema?.type ?? '',
    };
  });
  const responses = Object.entries(operation.responses ?? {}).map(([status, response]) => ({
    status,
    description: (response.$ref ? document.components?.responses?.[last(response.$ref)]?.description : response.description) ?? '',
  }));
  return {
    method,
    path,
    summary: operation.summary ?? '',
    description: operation.description ?? '',
    parameters,
    responses,
    curl: (base) => curl(base, path, method, operation),
  };
}

function curl(base: string, path: string, method: string, operation: Operation): string {
  const words = ['curl'];
  if (method !== 'get') words.push('-X', method.toUpperCase());
  const [type, media] = Object.entries(operation.requestBody?.content ?? {})[0] ?? [];
  const example = media?.example ?? media?.schema?.example;
  if (type === 'application/json' || type?.endsWith('+json')) {
    words.push(`-H 'content-type: ${type}'`, `-d '${JSON.stringify(example ?? {})}'`);
  } else if (type) {
    words.push("--data-binary 'a value'");
  }
  return `${words.join(' ')} '${base}${path}'`;
}
