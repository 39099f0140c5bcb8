// Lets in who knows the word.
import { Auth, HTTPException } from "@langchain/langgraph-sdk/auth";

export const auth = new Auth().authenticate(async (request) => {
  if (request.headers.get("authorization") !== "Bearer word") throw new HTTPException(401, { message: "unknown" });
  return { identity: "somebody", permissions: [] };
});
