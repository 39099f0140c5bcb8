// Auth objects, whole and broken. The class is as that of the SDK is, which keeps its handlers under this name.
class Auth {
  "~handlerCache": { authenticate?: unknown; callbacks: Record<string, unknown> } = { callbacks: {} };

  authenticate(handler: (request: Request) => unknown): this {
    this["~handlerCache"].authenticate = handler;
    return this;
  }

  on(event: string, handler: (asked: any) => unknown): this {
    this["~handlerCache"].callbacks[event] = handler;
    return this;
  }
}

class HTTPException extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export const auth = new Auth()
  .authenticate(async (request) => {
    const said = request.headers.get("authorization");
    if (said === "secret") throw new Error(`no handler for ${said}`);
    if (said === null) throw new HTTPException(401, "who are you?");
    if (said === "plain") return said;
    if (said === "body") return { identity: JSON.stringify(await request.json()), url: request.url };
    return { display_name: "no identity" };
  })
  .on("threads:create", ({ value, user }) => {
    value.metadata = { ...value.metadata, owner: user.identity };
  })
  .on("threads", ({ user }) => ({ owner: user.identity }))
  .on("*:delete", () => false)
  .on("crons", () => "odd")
  .on("store:get", ({ event, permissions }) => {
    throw new HTTPException(418, `${event} ${permissions}`);
  });

export const unarmed = new Auth();
