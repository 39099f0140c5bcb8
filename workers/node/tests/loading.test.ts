// What langgraph.json may name, and what is said of the rest.

import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

import { afterEach, expect, test, vi } from "vitest";

import { FakeHost, PROJECT } from "./host.ts";

const MODULES = join(PROJECT, "../../node_modules");
const GRAPH = `new StateGraph(Annotation.Root({ x: Annotation() })).addNode("n", () => ({ x: 1 })).addEdge(START, "n")`;
const IMPORTS = `import { Annotation, START, StateGraph } from "@langchain/langgraph";\n`;
const REQUIRES = `const { Annotation, START, StateGraph } = require("@langchain/langgraph");\n`;

let host: FakeHost;
let folder: string;
afterEach(async () => {
  await host.stop();
  if (folder) rmSync(folder, { recursive: true });
});

function project(files: Record<string, string>): string {
  folder = mkdtempSync(join(tmpdir(), "threadyard-project-"));
  symlinkSync(MODULES, join(folder, "node_modules"));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  return folder;
}

test("builders, factories, promises and defaults are graphs", async () => {
  host = new FakeHost();
  const paths = {
    builder: "./graphs.ts:counterBuilder",
    promised: "./graphs.ts:promised",
    default: "./graphs.ts:default",
    unnamed: "./graphs.ts",
    factory: "./factories.ts:plain",
    asynchronous: "./factories.ts:asynchronous",
    ofBuilder: "./factories.ts:ofBuilder",
  };
  const ready = await host.load(paths);
  expect(Object.values(ready.graphs)).toEqual(Object.values(paths).map(() => ({ ok: true })));
  for (const id of Object.keys(paths)) {
    const { end } = await host.run(id, { input: { count: 1, log: [] }, config: { configurable: { word: "w" } } });
    expect(end, id).toMatchObject({ status: "success", values: { count: 4 } });
  }
  const { end } = await host.run("asynchronous", { input: { count: 1, log: [] }, config: { configurable: { word: "w" } } });
  expect(end.values.log[0]).toBe("w");
});

test("factories are told what their graph is for", async () => {
  host = new FakeHost();
  await host.load({ informed: "./factories.ts:informed" });
  const config = { configurable: { thread_id: "t-informed" } };
  await host.run("informed", { thread: "t-informed", input: {}, context: { tone: "dry" } });
  for (const op of ["state_get", "state_history", "schemas", "draw", "subgraphs"]) await host.call(op, "informed", { config });
  await host.call("state_update", "informed", { config, values: { told: [] } });
  await host.call("state_replay", "informed", { config, supersteps: [{ updates: [{ values: {}, as_node: "tell" }] }] });
  const { end } = await host.run("informed", { thread: "t-informed", input: {} });
  const run = (executionRuntime: object) => ({ accessContext: "threads.create_run", executionRuntime });
  const call = (accessContext: string) => ({ accessContext, executionRuntime: null });
  expect(end.values.told).toEqual([
    run({ context: { tone: "dry" } }),
    ...Array(2).fill(call("threads.read")),
    ...Array(3).fill(call("assistants.read")),
    ...Array(2).fill(call("threads.update")),
    run({}),
  ]);
});

test("what is no graph is told with what is wrong", async () => {
  host = new FakeHost();
  const { graphs } = await host.load({
    broken: "./broken.ts:graph",
    absent: "./absent.ts:graph",
    misnamed: "./graphs.ts:countr",
    nothing: "./graphs.ts:notAGraph",
    good: "./graphs.ts:counter",
    factory: "./factories.ts:wrong",
  });
  expect(graphs.broken.error).toMatchObject({ error: "RangeError", message: "broken on purpose" });
  expect(graphs.broken.error.traceback).toContain("broken.ts:3");
  expect(graphs.absent.error.message).toBe("`./absent.ts` does not exist in the project");
  expect(graphs.misnamed.error.message).toMatch(/exports no `countr`; it exports .*`counter`/);
  expect(graphs.nothing.error.message).toMatch(/expected a graph, a graph builder, or a function/);
  expect(graphs.good).toEqual({ ok: true });
  expect((await host.run("factory", { input: {} })).end.error.message).toMatch(/returned a string; expected a graph/);
  expect((await host.run("broken", { input: {} })).end.error.message).toContain("broken on purpose");
  await expect(host.call("schemas", "unknown", {})).rejects.toMatchObject({ status: 404 });
});

test("modules of every kind are loaded, with the paths of tsconfig.json", async () => {
  const files = {
    "package.json": "{}",
    "tsconfig.json": '{"compilerOptions": {"paths": {"~/*": ["./src/*"]}, "jsx": "react"}}',
    "src/shared.ts": "export enum Word { Yes = 'yes' }",
    "a.ts": `${IMPORTS}import { Word } from "~/shared";\nexport const word: Word = Word.Yes;\nexport const graph = ${GRAPH}.compile();`,
    "b.mts": `${IMPORTS}export default ${GRAPH};`,
    "c.mjs": `${IMPORTS}export const graph = ${GRAPH};`,
    "d.cjs": `${REQUIRES}exports.graph = ${GRAPH};`,
    "e.js": `${REQUIRES}module.exports = ${GRAPH}.compile();`,
    "f.tsx": `${IMPORTS}const React = { createElement: () => 1 };\nexport const made = <div />;\nexport const graph = ${GRAPH};`,
    "esm/package.json": '{"type": "module"}',
    "esm/g.js": `${IMPORTS}export const graph = await Promise.resolve(${GRAPH});`,
  };
  host = new FakeHost();
  const paths = {
    a: "./a.ts:graph", b: "./b.mts:default", c: "./c.mjs:graph", d: "./d.cjs:graph",
    e: "./e.js:default", f: "./f.tsx:graph", g: "./esm/g.js:graph",
  };
  const ready = await host.load(paths, {}, project(files));
  for (const id of Object.keys(paths)) {
    expect(ready.graphs[id], id).toEqual({ ok: true });
    expect((await host.run(id, { input: {} })).end, id).toMatchObject({ status: "success", values: { x: 1 } });
  }
});

test("what would take the worker away while it loads is a failure of one graph", async () => {
  const files = {
    "package.json": '{"type": "module"}',
    "exits.ts": "process.exit(2);",
    "late.ts": 'setTimeout(() => { throw new RangeError("too late"); }, 10);\nawait new Promise((done) => setTimeout(done, 5000));',
    "remote.ts":
      'import { RemoteGraph } from "@langchain/langgraph/remote";\n' +
      'export const graph = new RemoteGraph({ graphId: "far", url: "http://127.0.0.1:9" });',
    "good.ts": `${IMPORTS}export const graph = ${GRAPH};`,
  };
  host = new FakeHost();
  const paths = { exits: "./exits.ts", late: "./late.ts", remote: "./remote.ts:graph", good: "./good.ts:graph" };
  const { graphs } = await host.load(paths, {}, project(files));
  expect(graphs.exits.error).toMatchObject({ error: "ProcessExit", message: "`process.exit(2)` was called while it was loaded" });
  expect(graphs.exits.error.traceback).toContain("exits.ts");
  expect(graphs.late.error).toMatchObject({ error: "RangeError", message: "too late" });
  expect([graphs.remote, graphs.good]).toEqual([{ ok: true }, { ok: true }]);
  expect((await host.run("good", { input: {} })).end).toMatchObject({ status: "success", values: { x: 1 } });
});

test("each graph has the LangGraph that its own module has", async () => {
  const sends = (how: string) => `(state, config) => ({ x: config.store.constructor.name, how: "${how}" })`;
  const graph = (how: string) =>
    `new StateGraph(Annotation.Root({ x: Annotation(), how: Annotation() })).addNode("n", ${sends(how)}).addEdge(START, "n")`;
  const files = {
    "package.json": '{"type": "module"}',
    "one.cjs": `${REQUIRES}exports.graph = ${graph("cjs")};`,
    "other.ts": `${IMPORTS}export const graph = ${graph("esm")};`,
  };
  host = new FakeHost();
  await host.load({ one: "./one.cjs:graph", other: "./other.ts:graph" }, {}, project(files));
  for (const [id, how] of [["one", "cjs"], ["other", "esm"]] as const) {
    const command = { goto: [{ node: "n", input: {} }] };
    const { end } = await host.run(id, { command });
    expect(end, id).toMatchObject({ status: "success", values: { how } });
  }
});

test("a module that can't await is told how it could", async () => {
  const files = { "package.json": "{}", "a.ts": `${IMPORTS}export const graph = await Promise.resolve(${GRAPH});` };
  host = new FakeHost();
  const { graphs } = await host.load({ a: "./a.ts:graph" }, {}, project(files));
  expect(graphs.a.error.message).toMatch(/awaits at its top level.*`"type": "module"`.*`\.mts`/);
});

test("what changes while it is loaded has a revision that no other load has", async () => {
  const save = 'import { writeFileSync } from "node:fs";\nwriteFileSync(new URL("./b.ts", import.meta.url), "export {};");';
  const made = project({ "a.ts": `${IMPORTS}import "./b.ts";\n${save}\nexport const graph = ${GRAPH};`, "b.ts": "export {};" });
  const revisions = new Set<string>();
  for (let load = 0; load < 2; load += 1) {
    host = new FakeHost();
    revisions.add((await host.load({ a: "./a.ts:graph" }, {}, made)).revision);
    await host.stop();
  }
  expect(revisions.size).toBe(2);
});

test("the revision changes with the files that are loaded, and with no others", async () => {
  const files = { "a.ts": `${IMPORTS}import "./b.ts";\nexport const graph = ${GRAPH};`, "b.ts": "export {};", "c.ts": "" };
  const made = project(files);
  const revision = async () => {
    host = new FakeHost();
    const ready = await host.load({ a: "./a.ts:graph" }, {}, made);
    await host.stop();
    return ready.revision;
  };
  const first = await revision();
  writeFileSync(join(made, "c.ts"), "export const other = 1;");
  expect(await revision()).toBe(first);
  writeFileSync(join(made, "b.ts"), "export const other = 1;");
  expect(await revision()).not.toBe(first);
});

test("what there is to load may come in many pieces", async () => {
  host = new FakeHost();
  const folder = project({ "graph.ts": `${IMPORTS}console.error("it is loaded");\nexport const graph = ${GRAPH};` });
  const ready = await host.load({ graph: "./graph.ts:graph" }, { unknown: "x".repeat(4 << 20) }, folder);
  expect(ready.graphs.graph).toEqual({ ok: true });
  await vi.waitFor(() => expect(host.output).toContain("it is loaded"), { timeout: 60_000 });
  expect(host.output).not.toContain("MaxListenersExceededWarning");
});
