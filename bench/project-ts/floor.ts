// One round of the bare graphs in this process, with checkpoints in memory and each event rendered as JSON: the least that
// any server could need. What to measure comes as JSON, the cases of `bench/cases.py` and the turns of a chat.
import { randomUUID } from "node:crypto";

import { MemorySaver, type Pregel } from "@langchain/langgraph";

import * as graphs from "./graphs.ts";

// A server that loses no tokens needs that: the queue for callbacks that LangChain has otherwise outlives its runs.
process.env.LANGCHAIN_CALLBACKS_BACKGROUND = "false";

interface Case {
  graph: keyof typeof graphs;
  input: Record<string, unknown>;
  runs: number;
  graph_mode: "messages" | "custom" | null;
  events: number;
}

type Graph = Pregel<any, any>;

const { cases, turns, last } = JSON.parse(process.argv[2] ?? "") as { cases: Case[]; turns: object[]; last: number };

/** The graph as a server has it; its own object is shared by all who use it. */
function kept(graph: Graph): Graph {
  return Object.assign(Object.create(graph) as Graph, { checkpointer: new MemorySaver() });
}

function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

async function runOnce(graph: Graph, { input, graph_mode, events }: Case): Promise<void> {
  const config = { configurable: { thread_id: randomUUID() } };
  if (graph_mode === null) {
    await graph.invoke(input, config);
    return;
  }
  let came = 0;
  for await (const event of await graph.stream(input, { ...config, streamMode: graph_mode })) {
    JSON.stringify(event);
    came += 1;
  }
  if (came < events) throw new Error(`${came} events of ${events} came`);
}

async function measure(what: Case): Promise<number> {
  const graph = kept(graphs[what.graph] as unknown as Graph);
  // As many as are counted, since V8 compiles what has been running for a while.
  for (let number = 0; number < what.runs; number += 1) await runOnce(graph, what);
  const started = cpuSeconds();
  for (let number = 0; number < what.runs; number += 1) await runOnce(graph, what);
  return (cpuSeconds() - started) / what.runs;
}

async function lastTurns(): Promise<number> {
  const graph = kept(graphs.echo as unknown as Graph);
  const config = { configurable: { thread_id: randomUUID() } };
  let started = 0;
  for (const [number, turn] of turns.entries()) {
    if (number === turns.length - last) started = cpuSeconds();
    await graph.invoke(turn, config);
  }
  return (cpuSeconds() - started) / last;
}

const measured: Record<string, { cpu_s: number }> = {};
for (const what of cases) measured[what.graph] = { cpu_s: await measure(what) };
console.log(JSON.stringify({ ...measured, chat: { cpu_s: await lastTurns() } }));
