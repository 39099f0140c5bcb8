// Bodies of requests that middleware of the user's application reads and the host's own routes need, too.

/** What Hono keeps of a request. Middleware may put another one into its place. */
export interface Asked {
  raw: Request;
}

const READS = ["arrayBuffer", "blob", "bytes", "formData", "json", "text"] as const;
type Reads = Record<(typeof READS)[number], () => Promise<unknown>>;

/** What requests had for a body that were read as a whole. Streams are not kept: they may be larger than the memory. */
const read = new WeakMap<Request, Promise<ArrayBuffer>>();

/** Sees to it that what is read of a body can be passed on. */
export function keepBodies(asked: Asked): void {
  let raw = keeping(asked.raw);
  const set = (other: Request) => {
    raw = keeping(other);
  };
  Object.defineProperty(asked, "raw", { get: () => raw, set, enumerable: true, configurable: true });
}

/** The request with its body, also where that was read; fails where nobody knows any more what it was. */
export async function unread({ raw }: Asked): Promise<Request> {
  if (!raw.bodyUsed && !raw.body?.locked) return raw;
  const body = await read.get(raw);
  const { method, signal, url } = raw;
  if (body === undefined) {
    const way = "read it with `c.req.text()` or the like, or from `c.req.raw.clone()`";
    const asked = `${method} ${new URL(url).pathname}`;
    throw new Error(`middleware took the body of ${asked} as a stream, and the server needs it, too: ${way}`);
  }
  const headers = new Headers(raw.headers);
  // Who put the request into the place of another may have left the length of that.
  headers.delete("content-length");
  return new Request(url, { method, headers, signal, body });
}

/** The same request, whose body is kept as it is read. */
function keeping(request: Request): Request {
  if (request.body === null) return request;
  const whole = request.arrayBuffer.bind(request);
  for (const name of READS) {
    // Node 20 has no `bytes`.
    if (!(name in request)) continue;
    const value = async () => {
      const isFirst = !request.bodyUsed;
      const body = whole();
      if (isFirst) read.set(request, body);
      const type = request.headers.get("content-type");
      const copy = new Response(await body, { headers: type === null ? {} : { "content-type": type } });
      return await (copy as unknown as Reads)[name]();
    };
    Object.defineProperty(request, name, { value, configurable: true, writable: true });
  }
  return request;
}
