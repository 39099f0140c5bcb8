// Callers are known by a token; each sees threads of their own, and items below their name.
import { Auth, HTTPException } from "@langchain/langgraph-sdk/auth";

const roles: Record<string, string> = { ann: "weaver", bob: "dyer" };

export const auth = new Auth()
  .authenticate(async (request) => {
    const token = request.headers.get("authorization")?.replace("Bearer ", "") ?? "";
    if (token === "broken") throw new Error(`no such secret: ${token}`);
    const role = roles[token];
    if (role === undefined) throw new HTTPException(401, { message: `nobody at ${new URL(request.url).pathname}` });
    return { identity: token, permissions: ["read", "write"], role };
  })
  .on("*", ({ value, user }) => {
    if (value !== null && typeof value === "object") {
      const known = "metadata" in value ? value.metadata : {};
      Object.assign(value, { metadata: { ...known, owner: user.identity } });
    }
    return { owner: user.identity };
  })
  .on("threads:delete", ({ permissions }) => permissions.includes("delete"))
  .on("*:search", ({ user }) => ({ owner: user.identity }))
  .on("assistants", () => true)
  .on("store", ({ value, user }) => {
    if (value.namespace?.[0] !== user.identity) throw new HTTPException(403, { message: "not your shelf", headers: { "X-Shelf": "taken" } });
  });
