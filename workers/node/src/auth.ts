// Custom auth: asks the handlers of the `Auth` of `@langchain/langgraph-sdk/auth` that langgraph.json names.

import { AuthFailed } from "./failures.ts";
import { isMethod, origin } from "./http_requests.ts";
import { toJsonText } from "./json.ts";
import { GraphLoadError, loadName } from "./loading.ts";

/** What langgraph.json says of it. */
export interface AuthConfig {
  path: string;
  /** Whether what no handler looks at is refused. */
  deny?: boolean;
}

type Fields = Record<string, any>;
type Handler = (asked: Fields) => unknown;

interface Handlers {
  authenticate(request: Request): unknown;
  callbacks: Record<string, Handler>;
}

/** What the host says of a request. */
interface Credentials {
  method: string;
  path: string;
  query: string;
  headers: [string, string][];
  body: string | null;
  scheme: string;
}

/** What the host asks whether it may be done. */
interface Asked {
  user: Fields;
  resource: string;
  action: string;
  value: Fields;
}

/** A handler returned what says nothing. The message is ours, so that it may be passed on. */
class UnusableAnswer extends Error {
  override name = "UnusableAnswer";
}

const FORBIDDEN = refused(403, "Forbidden", []);
const NO_METHOD = refused(405, "Method Not Allowed", []);
const BODILESS = new Set(["GET", "HEAD"]);

/** The user's handlers. */
export class CustomAuth {
  readonly #handlers: Handlers;
  readonly #deny: boolean;

  constructor(handlers: Handlers, deny: boolean) {
    this.#handlers = handlers;
    this.#deny = deny;
  }

  /** The auth object that the project configures. */
  static async load({ path, deny }: AuthConfig, project: string): Promise<CustomAuth> {
    const auth = (await loadName(path, project)) as { "~handlerCache"?: Partial<Handlers> } | undefined;
    const handlers = auth?.["~handlerCache"];
    if (handlers === undefined) {
      throw new GraphLoadError(`\`${path}\` is no \`Auth\` of \`@langchain/langgraph-sdk/auth\``);
    }
    const { authenticate, callbacks = {} } = handlers;
    if (authenticate === undefined) throw new GraphLoadError(`\`${path}\` has no \`authenticate\` handler`);
    return new CustomAuth({ authenticate, callbacks }, Boolean(deny));
  }

  /** Carries out one call. What a handler refuses is an answer, too. */
  async answer(op: "authenticate" | "authorize", args: Fields): Promise<Fields> {
    try {
      return await (op === "authenticate" ? this.#user(args as Credentials) : this.#verdict(args as Asked));
    } catch (thrown) {
      const status = httpStatus(thrown);
      if (thrown instanceof UnusableAnswer) throw thrown;
      if (status === undefined) throw new AuthFailed(thrown);
      return refused(status, (thrown as Error).message, headersOf(thrown));
    }
  }

  async #user(credentials: Credentials): Promise<Fields> {
    if (!isMethod(credentials.method)) return NO_METHOD;
    return { user: userOf(await this.#handlers.authenticate(request(credentials))) };
  }

  async #verdict({ user, resource, action, value }: Asked): Promise<Fields> {
    const event = `${resource}:${action}`;
    const { callbacks } = this.#handlers;
    const name = [event, resource, `*:${action}`, "*"].find((name) => Object.hasOwn(callbacks, name));
    if (name === undefined) return this.#deny ? FORBIDDEN : { edits: {}, filter: null };
    const before = new Map(Object.entries(value).map(([key, part]) => [key, toJsonText(part)]));
    const asked = { event, resource, action, value, user, permissions: user.permissions };
    const verdict = await callbacks[name]?.(asked);
    if (verdict === false) return FORBIDDEN;
    if (verdict !== undefined && verdict !== null && verdict !== true && !isFields(verdict)) {
      const kind = typeof verdict;
      throw new UnusableAnswer(`an authorization handler returned a ${kind}; expected nothing, a boolean, or a filter`);
    }
    const edits = Object.entries(value).filter(([key, part]) => before.get(key) !== toJsonText(part));
    return { edits: Object.fromEntries(edits), filter: isFields(verdict) ? verdict : null };
  }
}

/** The request as handlers of `authenticate` find it. */
function request({ method, path, query, headers, body, scheme }: Credentials): Request {
  const known = headers.map(([name, value]) => [name, Buffer.from(value, "base64").toString("latin1")] as const);
  const said = new Headers();
  // Node knows more headers than it lets a request have; those that it refuses tell nobody who is calling.
  for (const [name, value] of known) if (isHeader(name, value)) said.append(name, value);
  const url = new URL(origin(scheme, said.get("host")));
  url.pathname = path;
  url.search = query;
  const content = body === null || BODILESS.has(method) ? undefined : Buffer.from(body, "base64");
  return new Request(url, { method, headers: said, body: content });
}

function isHeader(name: string, value: string): boolean {
  try {
    new Headers([[name, value]]);
    return true;
  } catch {
    return false;
  }
}

/** The user that `authenticate` names: by an identity, or by fields that have one. */
function userOf(returned: unknown): Fields {
  const fields = typeof returned === "string" ? { identity: returned } : returned;
  if (!isFields(fields) || typeof fields.identity !== "string") {
    throw new UnusableAnswer("authenticate must return an identity, or something with an `identity` that is a text");
  }
  const { identity, permissions } = fields;
  const usual = { is_authenticated: true, display_name: identity };
  return { ...usual, ...fields, permissions: Array.isArray(permissions) ? permissions : [] };
}

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The status of what the SDK's `HTTPException` says, or one of a web framework. */
function httpStatus(thrown: unknown): number | undefined {
  if (!(thrown instanceof Error)) return undefined;
  const { status } = thrown as { status?: unknown };
  if (typeof status !== "number" || !Number.isInteger(status)) return undefined;
  return status >= 400 && status <= 599 ? status : undefined;
}

/** The further headers that the answer to a refusal shall have. */
function headersOf(thrown: unknown): [string, string][] {
  const { headers } = thrown as { headers?: ConstructorParameters<typeof Headers>[0] };
  try {
    return [...new Headers(headers)];
  } catch (error) {
    throw new AuthFailed(error);
  }
}

function refused(status: number, detail: string, headers: [string, string][]): Fields {
  return { refused: { status, detail, headers } };
}
