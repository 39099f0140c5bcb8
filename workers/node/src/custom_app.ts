// The user's Hono application: loaded, and served the requests that the host hands over.

import type { Connection } from "./connection.ts";
import { Exchange, type ExchangeId, type Message } from "./exchange.ts";
import { errorBody } from "./failures.ts";
import { Kind, unpackMap } from "./frames.mjs";
import { isMethod, origin } from "./http_requests.ts";
import { type Asked, keepBodies, unread } from "./kept_bodies.ts";
import { GraphLoadError, loadName } from "./loading.ts";

export interface AppConfig {
  path: string;
}

/** What is used of Hono, of whichever copy the project has. */
interface Hono {
  fetch(request: Request, env: object): Response | Promise<Response>;
  readonly routes: { path: string; method: string }[];
  route(path: string, app: Hono): Hono;
  use(middleware: (context: Context, next: () => Promise<void>) => Promise<void>): Hono;
  notFound(handler: (context: Context) => Promise<Response>): Hono;
}

/** What the host says of a request besides. */
interface Env {
  user?: Record<string, unknown>;
  ownOnly?: boolean;
  client?: unknown;
}

interface Context {
  req: Asked;
  env: Env;
  set(name: string, value: unknown): void;
}

/** A request, as the host says it. */
interface Scope {
  method: string;
  scheme: string;
  raw_path: Uint8Array;
  /** What the path begins with that is not the application's. */
  root_path: string;
  query_string: Uint8Array;
  headers: [Uint8Array, Uint8Array][];
  user?: Uint8Array;
  /** The address and port of the client. */
  client?: unknown;
  /** Whether the host's own routes must not answer. */
  own_only?: boolean;
}

const ANY_METHOD = "ALL";
const BODILESS = new Set(["GET", "HEAD"]);
/** Statuses of answers that have no body, not even an empty one. */
const EMPTY = new Set([101, 204, 205, 304]);
const DISCONNECT = "http.disconnect";

/** A Hono application and its open exchanges. */
export class CustomApp {
  readonly #app: Hono;
  readonly #routes: Hono["routes"];
  readonly #exchanges = new Map<string, Exchange>();
  #connection: Connection | undefined;

  constructor(app: Hono) {
    this.#routes = app.routes.map(({ path, method }) => ({ path, method }));
    const outer = new (app.constructor as new () => Hono)();
    outer.use(async (context, next) => {
      keepBodies(context.req);
      const { user } = context.env;
      if (user !== undefined) context.set("auth", { user, scopes: user.permissions });
      await next();
    });
    // What it has no route for is the host's, which an application's own answer to that would hide.
    this.#app = outer.route("/", app).notFound(async ({ env, req }) => {
      return env.ownOnly ? refused(404, "Not Found") : await this.#passOn(req, env);
    });
  }

  /** The application that the project configures. */
  static async load({ path }: AppConfig, project: string): Promise<CustomApp> {
    const app = (await loadName(path, project)) as Partial<Hono> | undefined;
    const known = typeof app?.fetch === "function" && typeof app.route === "function" && Array.isArray(app.routes);
    if (!known) throw new GraphLoadError(`\`${path}\` is no Hono application`);
    return new CustomApp(app as Hono);
  }

  /** What the host is to know of it. */
  start(connection: Connection): object {
    this.#connection = connection;
    const wraps = ({ path, method }: Hono["routes"][number]) => method === ANY_METHOD && path.includes("*");
    const routes = this.#routes.filter((route) => !wraps(route)).map(routeOf);
    return { ok: true, routes, middleware: this.#routes.some(wraps), openapi: null };
  }

  /** Ends what is still going on. */
  stop(): void {
    for (const exchange of this.#exchanges.values()) exchange.close();
  }

  /** A frame of the host; a promise when it begins an exchange. */
  receive(kind: number, id: ExchangeId, body: Buffer): Promise<void> | undefined {
    if (kind === Kind.ASGI_OPEN) return this.#serve(id, unpackMap(body) as Scope);
    const exchange = this.#exchanges.get(key(id));
    if (kind === Kind.ASGI_MESSAGE) exchange?.deliver(unpackMap(body) as Message);
    else if (kind === Kind.ASGI_CREDIT) exchange?.credit(body.readUInt32LE());
    else exchange?.close();
    return undefined;
  }

  async #serve(id: ExchangeId, scope: Scope): Promise<void> {
    const exchange = this.#open(id);
    try {
      const user = scope.user && JSON.parse(Buffer.from(scope.user).toString());
      const env: Env = { ownOnly: scope.own_only === true, client: scope.client };
      if (user !== undefined) env.user = user;
      const asked = isMethod(scope.method) && requestOf(scope, exchange);
      const response = asked ? await this.#app.fetch(asked, env) : refused(405, "Method Not Allowed");
      await answer(response, exchange);
      exchange.finish();
    } catch (thrown) {
      if (!exchange.gone.aborted) console.error(`the application failed at ${scope.method}:`, thrown);
      exchange.finish(errorBody(thrown));
    } finally {
      this.#exchanges.delete(key(id));
    }
  }

  /** Has the host answer with its own routes what the application has none for. */
  async #passOn(asked: Asked, { client }: Env): Promise<Response> {
    const request = await unread(asked);
    if (this.#connection === undefined) throw new Error("the application was asked before it was started");
    const id = { number: this.#connection.newId(), ours: true };
    const exchange = this.#open(id);
    const { pathname, search, protocol } = new URL(request.url);
    const scope = {
      type: "http",
      method: request.method,
      path: pathname,
      query_string: Buffer.from(search.slice(1)),
      headers: headersOf(request.headers),
      scheme: protocol.slice(0, -1),
      client: client ?? null,
    };
    this.#connection.sendMap(Kind.ASGI_OPEN, id.number, scope, true);
    const left = () => void exchange.send({ type: DISCONNECT });
    request.signal.addEventListener("abort", left);
    const done = () => {
      request.signal.removeEventListener("abort", left);
      this.#exchanges.delete(key(id));
      exchange.finish();
    };
    void send(request.body, "http.request", exchange).catch(() => exchange.send({ type: DISCONNECT }));
    const start = await exchange.receive();
    if (start.status === undefined) {
      done();
      throw new Error("the server did not answer what the application had passed on to it");
    }
    const headers = (start.headers ?? []).map(([name, value]) => [latin1(name), latin1(value)] as [string, string]);
    if (!EMPTY.has(start.status)) return new Response(received(exchange, done), { status: start.status, headers });
    done();
    return new Response(null, { status: start.status, headers });
  }

  #open(id: ExchangeId): Exchange {
    const exchange = new Exchange(id, this.#connection as Connection);
    this.#exchanges.set(key(id), exchange);
    return exchange;
  }
}

function key({ number, ours }: ExchangeId): string {
  return `${ours ? "ours" : "theirs"} ${number}`;
}

function refused(status: number, detail: string): Response {
  return Response.json({ detail }, { status });
}

/** The request that the host hands over. */
function requestOf(scope: Scope, exchange: Exchange): Request {
  const headers = new Headers(scope.headers.map(([name, value]) => [latin1(name), latin1(value)] as [string, string]));
  const [path, query, root] = [latin1(scope.raw_path), latin1(scope.query_string), encodeURI(scope.root_path)];
  const own = path.startsWith(root) ? path.slice(root.length) : path;
  const url = `${origin(scope.scheme, headers.get("host"))}${own || "/"}${query && `?${query}`}`;
  const body = BODILESS.has(scope.method) ? null : received(exchange);
  // A body that is still coming needs `duplex`, which the types of Node don't know.
  const init = { method: scope.method, headers, body, duplex: "half", signal: exchange.gone };
  return new Request(url, init as RequestInit);
}

/** What comes over an exchange as the body of a request or an answer. */
function received(exchange: Exchange, done = () => {}): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { type, body, more_body } = await exchange.receive();
      if (body !== undefined && body.length > 0) controller.enqueue(body);
      if (type !== DISCONNECT && more_body) return body?.length ? undefined : await this.pull?.(controller);
      if (type === DISCONNECT) controller.error(new Error("the other side has left"));
      else controller.close();
      done();
    },
    cancel: done,
  });
}

async function answer(response: Response, exchange: Exchange): Promise<void> {
  await exchange.send({ type: "http.response.start", status: response.status, headers: headersOf(response.headers) });
  await send(response.body, "http.response.body", exchange);
}

/** Sends a body to its end, or until nobody wants it any more. */
async function send(body: ReadableStream<Uint8Array> | null, type: string, exchange: Exchange): Promise<void> {
  const reader = body?.getReader();
  const stop = () => void reader?.cancel().catch(() => {});
  exchange.gone.addEventListener("abort", stop);
  try {
    for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
      await exchange.send({ type, body: part.value, more_body: true });
    }
  } finally {
    exchange.gone.removeEventListener("abort", stop);
  }
  await exchange.send({ type, body: new Uint8Array(), more_body: false });
}

function headersOf(headers: Headers): [Uint8Array, Uint8Array][] {
  return [...headers].map(([name, value]) => [Buffer.from(name, "latin1"), Buffer.from(value, "latin1")]);
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("latin1");
}

/** What the host compares requests with. A route that it can't be told takes everything, and passes on the rest. */
function routeOf({ path, method }: Hono["routes"][number]): object {
  const methods = method === ANY_METHOD ? null : method === "GET" ? ["GET", "HEAD"] : [method];
  return { pattern: patternOf(path), methods, http: true, websocket: false };
}

/** A regular expression for a path of Hono; empty when it has more than names and stars. */
function patternOf(path: string): string {
  if (/[{}?]/.test(path)) return "";
  const parts = path.split("/").map((part) => {
    if (part.startsWith(":")) return "[^/]+";
    return part.replace(/[.+^$()|[\]\\]/g, "\\$&").replaceAll("*", ".*");
  });
  return `^${parts.join("/").replace(/\/\.\*$/, "(?:/.*)?")}$`;
}
