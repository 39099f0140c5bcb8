// How a connection says who is calling.
// @ts-check

import { Kind, PROTOCOL, packMap } from "./frames.mjs";

/**
 * The `HELLO` frame of a connection.
 *
 * @param {"main" | "control"} role
 * @param {string} token
 */
export function hello(role, token) {
  const versions = { node: process.versions.node, v8: process.versions.v8 };
  const body = { proto: PROTOCOL, role, token, pid: process.pid, lang: "node", versions, caps: [] };
  return packMap(Kind.HELLO, 0, body);
}
