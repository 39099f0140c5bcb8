// Graphs for the tests: the twins of workers/python/tests/project/graphs.py.

import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import { FakeListChatModel } from "@langchain/core/utils/testing";
import {
  Annotation,
  type BaseStore,
  Command,
  MemorySaver,
  MessagesAnnotation,
  START,
  Send,
  StateGraph,
  interrupt,
  type LangGraphRunnableConfig,
} from "@langchain/langgraph";

import { letGo } from "./gate.ts";

type Config = LangGraphRunnableConfig;

const sum = (left: number, right: number) => left + right;
const concat = <T>(left: T[], right: T[]) => left.concat(right);

export const Counter = Annotation.Root({
  count: Annotation<number>({ reducer: sum, default: () => 0 }),
  log: Annotation<string[]>({ reducer: concat, default: () => [] }),
});

export const counterBuilder = new StateGraph(Counter)
  .addNode("add", async () => ({ count: 1, log: ["add"] }))
  .addNode("double", async (state) => ({ count: state.count, log: ["double"] }))
  .addEdge(START, "add")
  .addEdge("add", "double");
export const counter = counterBuilder.compile();
export const named = counterBuilder.compile({ name: "Named by its author" });
export const ownCheckpointer = counterBuilder.compile({ checkpointer: new MemorySaver() });
export const notAGraph = { nodes: [] };
export const promised = Promise.resolve(counter);
export default counter;

const Streamer = Annotation.Root({ ...MessagesAnnotation.spec, text: Annotation<string> });

const streamerBuilder = new StateGraph(Streamer)
  .addNode("model", async (state, config) => {
    const model = new FakeListChatModel({ responses: [state.text ?? "abc"] });
    return { messages: [await model.invoke(state.messages, config)] };
  })
  .addEdge(START, "model");
export const streamer = streamerBuilder.compile();
export const streamerWithin = new StateGraph(Streamer)
  .addNode("child", streamerBuilder.compile())
  .addEdge(START, "child")
  .compile();

const Hitl = Annotation.Root({
  topic: Annotation<string>,
  draft: Annotation<string>,
  answer: Annotation<unknown>,
  done: Annotation<boolean>,
});

export const hitl = new StateGraph(Hitl)
  .addNode("write", async (state) => ({ draft: `draft about ${state.topic}` }))
  .addNode("review", async (state) => ({ answer: interrupt({ question: "approve?", draft: state.draft }) }))
  .addNode("finish", async () => ({ done: true }))
  .addEdge(START, "write")
  .addEdge("write", "review")
  .addEdge("review", "finish")
  .compile();
export const hitlWithin = new StateGraph(Hitl)
  .addNode(
    "child",
    new StateGraph(Hitl)
      .addNode("review", async () => ({ answer: interrupt("within?") }))
      .addEdge(START, "review")
      .compile(),
  )
  .addEdge(START, "child")
  .compile();

const Ask = Annotation.Root({ answers: Annotation<unknown[]>({ reducer: concat, default: () => [] }) });
export const twoQuestions = new StateGraph(Ask)
  .addNode("ask_a", async () => ({ answers: [interrupt("a")] }))
  .addNode("ask_b", async () => ({ answers: [interrupt("b")] }))
  .addEdge(START, "ask_a")
  .addEdge(START, "ask_b")
  .compile();

const asked = async () => {
  interrupt("first");
  interrupt("second");
  return {};
};
export const changingNothing = new StateGraph(Ask)
  .addNode("one", asked)
  .addNode("other", asked)
  .addNode("last", async () => ({ answers: ["out"] }))
  .addEdge(START, "one")
  .addEdge(START, "other")
  .addEdge(["one", "other"], "last")
  .compile();

const Boom = Annotation.Root({ n: Annotation<number>, how: Annotation<string> });
export const boom = new StateGraph(Boom)
  .addNode("pre", async (state) => ({ n: (state.n ?? 0) + 1 }))
  .addNode("boom", async (state) => {
    if (state.how === "fine") return { n: 100 };
    if (state.how === "surrogate") throw new RangeError("a\ud800b");
    if (state.how === "text") throw "only a text";
    throw new RangeError(`boom at ${state.n}`);
  })
  .addEdge(START, "pre")
  .addEdge("pre", "boom")
  .compile();

const Slow = Annotation.Root({
  steps: Annotation<string[]>({ reducer: concat, default: () => [] }),
  how: Annotation<string>,
  until: Annotation<string>,
});
async function wait(state: typeof Slow.State, config: Config) {
  if (state.how === "block") {
    while (!existsSync(state.until)) for (const turn = Date.now() + 50; Date.now() < turn; );
  } else if (state.how === "stubborn") {
    config.writer?.("waiting");
    await letGo(state.until);
    console.log(`the stubborn code has ended at ${Date.now()}`);
  } else {
    config.writer?.("waiting");
    await sleep(3_600_000, undefined, { signal: config.signal });
  }
  return { steps: ["waited"] };
}

const slowBuilder = new StateGraph(Slow)
  .addNode("first", async () => ({ steps: ["first"] }))
  .addNode("wait", wait)
  .addEdge(START, "first")
  .addEdge("first", "wait");
export const slow = slowBuilder.compile();
export const slowWithin = new StateGraph(Slow)
  .addNode("child", slowBuilder.compile())
  .addEdge(START, "child")
  .compile();

const Custom = Annotation.Root({ x: Annotation<any>, n: Annotation<number> });
export const custom = new StateGraph(Custom)
  .addNode("emit", async (state, config: Config) => {
    for (let i = 0; i < (state.n ?? 3); i += 1) config.writer?.({ i });
    return { x: 1 };
  })
  .addEdge(START, "emit")
  .compile();

/** State that JSON drops, from a node and as what a task beside one that asks has written. */
export const dropped = new StateGraph(Custom)
  .addNode("drop", async (state) => ({ x: state.n === 1 ? Symbol("s") : () => 1 }))
  .addEdge(START, "drop")
  .compile();
export const droppedBesideQuestion = new StateGraph(Custom)
  .addNode("drop", async () => ({ x: () => 1 }))
  .addNode("ask", async () => ({ n: interrupt("n?") }))
  .addEdge(START, "drop")
  .addEdge(START, "ask")
  .compile();

export const circular = new StateGraph(Custom)
  .addNode("circle", async (_, config: Config) => {
    const x: Record<string, unknown> = { n: 1 };
    x.self = x;
    config.writer?.(x);
    return { x };
  })
  .addEdge(START, "circle")
  .compile();

export const withContext = new StateGraph(Custom)
  .addNode("context", async (_, config: Config) => ({ x: config.context ?? config.configurable?.user_name ?? "nobody" }))
  .addEdge(START, "context")
  .compile();

export const storer = new StateGraph(Custom)
  .addNode("store", async (_, config: Config) => {
    const store = config.store as BaseStore;
    await store.put(["users", "ann"], "k", { n: 1 });
    await store.put(["users", "bob"], "k", { n: 2 });
    const item = await store.get(["users", "ann"], "k");
    const found = await store.search(["users"], { filter: { n: 2 } });
    const names = await store.listNamespaces({ prefix: ["users"], maxDepth: 2 });
    await store.delete(["users", "bob"], "k");
    const gone = await store.get(["users", "bob"], "k");
    return { x: [item?.value, found.map((it) => it.key), names, gone] };
  })
  .addEdge(START, "store")
  .compile();

const Fan = Annotation.Root({
  items: Annotation<string[]>,
  results: Annotation<string[]>({ reducer: concat, default: () => [] }),
});
export const fanout = new StateGraph(Fan)
  .addNode("worker", async (state: any) => ({ results: [state.item.toUpperCase()] }))
  .addConditionalEdges(START, (state) => state.items.map((item) => new Send("worker", { item })), ["worker"])
  .compile();

export const jumper = new StateGraph(Custom)
  .addNode("jump", async () => new Command({ goto: "land", update: { n: 7 } }), { ends: ["land"] })
  .addNode("land", async (state) => ({ x: state.n + 1 }))
  .addEdge(START, "jump")
  .compile();

const Big = Annotation.Root({
  turns: Annotation<string[]>({ reducer: concat, default: () => [] }),
  size: Annotation<number>,
  text: Annotation<string>,
});
export const big = new StateGraph(Big)
  .addNode("big", async () => ({ turns: ["x".repeat(300)], size: Number.NaN, text: "é".repeat(200) }))
  .addEdge(START, "big")
  .compile();

export const printer = new StateGraph(Custom)
  .addNode("print", async () => {
    console.log("printed by a node");
    console.error("an error line");
    return {};
  })
  .addEdge(START, "print")
  .compile();
