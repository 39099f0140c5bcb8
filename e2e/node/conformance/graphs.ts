// The graphs of the conformance scenarios in TypeScript: named, shaped and behaving as those in Python do.
import { AIMessage, HumanMessage } from "@langchain/core/messages";
import type { RunnableConfig } from "@langchain/core/runnables";
import { FakeListChatModel } from "@langchain/core/utils/testing";
import {
  Command,
  END,
  interrupt,
  type LangGraphRunnableConfig,
  MessagesValue,
  ReducedValue,
  type Runtime,
  Send,
  START,
  StateGraph,
  StateSchema,
} from "@langchain/langgraph";
import { z } from "zod";

const strings = () =>
  new ReducedValue(z.array(z.string()).default(() => []), { reducer: (all, more) => [...all, ...more] });
const sum = () => new ReducedValue(z.int().default(0), { reducer: (count, more) => count + more });
const pause = (seconds: number) => new Promise((done) => setTimeout(done, seconds * 1000));

const Messages = new StateSchema({ messages: MessagesValue });

export const echo = new StateGraph(Messages)
  .addNode("agent", async ({ messages }) => {
    const content = `echo: ${messages.at(-1)?.content}`;
    return { messages: [{ role: "assistant", content, id: `ai-${messages.length}` }] };
  })
  .addEdge(START, "agent")
  .addEdge("agent", END)
  .compile();

const Streamed = new StateSchema({
  messages: MessagesValue,
  text: z.string().optional(),
  sleep: z.number().optional(),
});

export const streamer = new StateGraph(Streamed)
  .addNode("model", async ({ messages, text, sleep }) => {
    const model = new FakeListChatModel({ responses: [text ?? "abc"], sleep: sleep && sleep * 1000 });
    return { messages: [await model.invoke(messages)] };
  })
  .addEdge(START, "model")
  .addEdge("model", END)
  .compile();

export const said = new StateGraph(Messages)
  .addNode("say", async () => ({
    messages: [new AIMessage({ content: "said", id: "ai-said" }), new HumanMessage({ content: "ok", id: "hu-said" })],
  }))
  .addEdge(START, "say")
  .compile();

const Hitl = new StateSchema({
  topic: z.string().optional(),
  draft: z.string().optional(),
  answer: z.any().optional(),
  done: z.boolean().optional(),
});

// LangGraph.js has no node that is named as a channel, and the recordings have one.
const drafting = new StateGraph(Hitl);
const { draft: channel } = drafting.channels;
delete drafting.channels.draft;
const drafted = drafting.addNode("draft", async ({ topic }) => ({ draft: `draft about ${topic}` }));
drafted.channels.draft = channel;

export const hitl = drafted
  .addNode("review", async ({ draft }) => ({ answer: interrupt({ question: "approve?", draft }) }))
  .addNode("finish", async () => ({ done: true }))
  .addEdge(START, "draft")
  .addEdge("draft", "review")
  .addEdge("review", "finish")
  .addEdge("finish", END)
  .compile();

const Multi = new StateSchema({
  topic: z.string().optional(),
  answers: new ReducedValue(z.array(z.any()).default(() => []), { reducer: (all, more) => [...all, ...more] }),
});

export const multiHitl = new StateGraph(Multi)
  .addNode("ask_a", async () => ({ answers: [{ a: interrupt("question a") }] }))
  .addNode("ask_b", async () => ({ answers: [{ b: interrupt("question b") }] }))
  .addEdge(START, "ask_a")
  .addEdge(START, "ask_b")
  .compile();

const Sub = new StateSchema({ value: z.string().optional(), trail: strings() });

const child = new StateGraph(Sub)
  .addNode("inner1", async ({ value }) => ({ value: `inner(${value})`, trail: ["inner1"] }))
  .addNode("inner2", async () => ({ trail: ["inner2"] }))
  .addEdge(START, "inner1")
  .addEdge("inner1", "inner2")
  .compile();

const asking = new StateGraph(Sub)
  .addNode("inner_ask", async ({ value }) => {
    const got = interrupt({ need: "input", value });
    return { value: String(got), trail: ["inner_ask"] };
  })
  .addEdge(START, "inner_ask")
  .compile();

const before = async ({ value }: typeof Sub.State) => ({ value: `before(${value})`, trail: ["before"] });
const after = async ({ value }: typeof Sub.State) => ({ value: `after(${value})`, trail: ["after"] });

export const sub = new StateGraph(Sub)
  .addNode("before", before)
  .addNode("child", child)
  .addNode("after", after)
  .addEdge(START, "before")
  .addEdge("before", "child")
  .addEdge("child", "after")
  .compile();

export const subHitl = new StateGraph(Sub)
  .addNode("before", before)
  .addNode("child", asking)
  .addNode("after", after)
  .addEdge(START, "before")
  .addEdge("before", "child")
  .addEdge("child", "after")
  .compile();

class ValueError extends Error {
  override name = "ValueError";
}

const Boom = new StateSchema({ n: z.int().optional(), ok: z.boolean().optional() });

export const boom = new StateGraph(Boom)
  .addNode("pre", async ({ n }) => ({ n: (n ?? 0) + 1 }))
  .addNode("boom", async ({ n, ok }) => {
    if (ok) return { n: 100 };
    throw new ValueError(`boom at ${n}`);
  })
  .addEdge(START, "pre")
  .addEdge("pre", "boom")
  .compile();

const Counter = new StateSchema({ count: sum(), log: strings() });

export const counter = new StateGraph(Counter)
  .addNode("add", async () => ({ count: 1, log: ["add"] }))
  .addNode("double", async ({ count }) => ({ count, log: ["double"] }))
  .addEdge(START, "add")
  .addEdge("add", "double")
  .addEdge("double", END)
  .compile();

const Custom = new StateSchema({ x: z.int().optional() });

export const custom = new StateGraph(Custom)
  .addNode("emit", async ({ x }, { writer }) => {
    for (const event of [{ progress: 1 }, "plain string", [1, 2, 3]]) writer?.(event);
    return { x: (x ?? 0) + 1 };
  })
  .addEdge(START, "emit")
  .compile();

const Ctx = z.object({ user_name: z.string().default("nobody"), level: z.int().default(0) });
const Seen = new StateSchema({ seen: z.record(z.string(), z.any()).optional() });

export const ctx = new StateGraph(Seen, Ctx)
  .addNode("read", async (_, { context }: Runtime<z.infer<typeof Ctx>>) => ({
    seen: context ? Ctx.parse(context) : { none: true },
  }))
  .addEdge(START, "read")
  .compile();

const Cfg = z.object({ flavour: z.string().optional(), size: z.int().optional() });
const shown = (of: object) => Object.keys(of).filter((key) => !key.startsWith("__")).sort();
// What LangGraph.js adds to whatever a node is told.
const LIMIT = 25;
const ADDED = ["checkpoint_ns"];

export const cfg = new StateGraph(Seen, Cfg)
  .addNode("read", async (_, config: LangGraphRunnableConfig) => {
    const configurable = config.configurable ?? {};
    const metadata = config.metadata ?? {};
    return {
      seen: {
        flavour: configurable.flavour ?? null,
        size: configurable.size ?? null,
        graph_id: configurable.graph_id ?? null,
        assistant_id: String(configurable.assistant_id),
        thread_id: String(configurable.thread_id),
        run_id: String(configurable.run_id),
        recursion_limit: config.recursionLimit === LIMIT ? null : config.recursionLimit,
        tags: [...(config.tags ?? [])].sort(),
        keys: shown(configurable),
        metadata_keys: shown(metadata).filter((key) => !ADDED.includes(key)),
        md: Object.fromEntries(Object.entries(metadata).filter(([key]) => key.startsWith("md_"))),
      },
    };
  })
  .addEdge(START, "read")
  .compile();

const Stored = new StateSchema({
  ns: z.string(),
  key: z.string(),
  value: z.record(z.string(), z.any()).optional(),
  found: z.any().optional(),
});

export const storer = new StateGraph(Stored)
  .addNode("touch", async ({ ns, key, value }, { store }: LangGraphRunnableConfig) => {
    const before = await store?.get([ns], key);
    if (value) await store?.put([ns], key, value);
    return { found: before?.value ?? null };
  })
  .addEdge(START, "touch")
  .compile();

const Fan = new StateSchema({
  items: z.array(z.string()),
  results: strings(),
  total: z.int().optional(),
});

export const fanout = new StateGraph(Fan)
  .addNode("worker", async ({ item }: { item: string }) => ({ results: [item.toUpperCase()] }))
  .addNode("join", async ({ results }) => ({ total: results.length }))
  .addConditionalEdges(START, ({ items }) => items.map((item) => new Send("worker", { item })), ["worker"])
  .addEdge("worker", "join")
  .compile();

const Slow = new StateSchema({ steps: strings(), delay: z.number().optional(), tag: z.string().optional() });

const slowly = (name: string) => async ({ delay, tag }: typeof Slow.State) => {
  await pause(delay ?? 0);
  return { steps: [`${tag ?? ""}${name}`] };
};

export const slow = new StateGraph(Slow)
  .addNode("s1", slowly("s1"))
  .addNode("s2", slowly("s2"))
  .addNode("s3", slowly("s3"))
  .addEdge(START, "s1")
  .addEdge("s1", "s2")
  .addEdge("s2", "s3")
  .compile();

const Loop = new StateSchema({ i: sum() });

export const looper = new StateGraph(Loop)
  .addNode("spin", async () => ({ i: 1 }))
  .addEdge(START, "spin")
  .addEdge("spin", "spin")
  .compile();

const Route = new StateSchema({ path: z.string().optional(), visited: strings() });

export const router = new StateGraph(Route)
  .addNode("route", async ({ path }) => new Command({ goto: path ?? "left", update: { visited: ["route"] } }), {
    ends: ["left", "right"],
  })
  .addNode("left", async () => ({ visited: ["left"] }))
  .addNode("right", async () => ({ visited: ["right"] }))
  .addEdge(START, "route")
  .compile();

export function makeGraph(config: RunnableConfig) {
  const width = Number(config.configurable?.width ?? 1);
  const names = Array.from({ length: width }, (_, i) => `n${i}`);
  const nodes = names.map((name) => [name, () => ({ visited: [name] })] as const);
  const builder = new StateGraph(Route).addSequence(Object.fromEntries(nodes));
  return builder.addEdge(START, names[0]).compile();
}
