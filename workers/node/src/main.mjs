// Entry of a worker: makes TypeScript loadable, as the project's own code is, and then loads the rest of the worker.
// @ts-check

import { readFileSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";

import { startControl } from "./control.mjs";

/** @param {string} name */
function taken(name) {
  const value = process.env[name];
  if (value === undefined) throw new Error(`the variable ${name} is missing; only the server starts a worker`);
  // User code and its child processes have no business with the token.
  delete process.env[name];
  return value;
}

// LangChain would have one queue for the callbacks of all runs, among them those that stream tokens, and a run would end
// before its tokens have come out of it.
process.env.LANGCHAIN_CALLBACKS_BACKGROUND ??= "false";

const place = { path: taken("THREADYARD_SOCKET"), token: taken("THREADYARD_TOKEN") };
const manifest = pathToFileURL(taken("THREADYARD_TSX"));
const { exports } = JSON.parse(readFileSync(manifest, "utf8"));
/** @param {string} api */
const tsx = (api) => import(new URL(exports[api].import.default, manifest).href);

const control = startControl(place);
/** The files that were imported so far. */
const imported = new Set();
(await tsx("./cjs/api")).register();
(await tsx("./esm/api")).register({
  /** @param {string} url */
  onImport: (url) => url.startsWith("file:") && imported.add(fileURLToPath(url)),
});

const { serve } = await import("./worker.ts");
await serve(place, control, imported);
