// A graph as nodes and edges, in the form and the order in which LangGraph for Python draws them.

import type { Graph } from "./loading.ts";

type Json = Record<string, any>;
interface Edge {
  source: string;
  target: string;
  data?: unknown;
  conditional?: boolean;
}

const START = "__start__";
const END = "__end__";
/** Stands between a subgraph and its nodes. */
const WITHIN = ":";

/** Nodes and edges as `GET /assistants/{id}/graph` answers them. */
export async function drawing(graph: Graph, config: Json, xray: boolean | number): Promise<Json> {
  const { nodes, edges } = spelled((await graph.getGraphAsync({ ...config, xray } as any)).toJSON() as Json);
  const ids: string[] = nodes.map(({ id }: Json) => id);
  const leaves = ids.filter((id) => !last(id, END) && !edges.some(({ source }: Edge) => source === id));
  // LangGraph for JavaScript leaves out where a graph ends that has no edge to say so.
  const ends = leaves.map((id) => ({ source: id, target: END }));
  const drawn: Json[] = ends.length > 0 && !ids.includes(END) ? [...nodes, { id: END }] : nodes;
  const [inner, outer] = [drawn.filter(({ id }) => id.includes(WITHIN)), drawn.filter(({ id }) => !id.includes(WITHIN))];
  return { nodes: [...outer, ...inner].map(shownNode), edges: inFlow([...edges, ...ends]).map(shownEdge) };
}

/** Graphs of the functional API number their nodes. */
function spelled({ nodes, edges }: Json): Json {
  return {
    nodes: nodes.map((node: Json) => ({ ...node, id: String(node.id) })),
    edges: edges.map((edge: Json) => ({ ...edge, source: String(edge.source), target: String(edge.target) })),
  };
}

/** Edges as they are come across from the start on, those of subgraphs behind the others. */
function inFlow(edges: Edge[]): Edge[] {
  const [inner, outer] = [edges.filter(isInner), edges.filter((edge) => !isInner(edge))];
  const found = new Set<Edge>();
  const reached = [START];
  for (const node of reached) {
    for (const edge of outer.filter(({ source }) => outermost(source) === node)) {
      found.add(edge);
      const next = outermost(edge.target);
      if (!reached.includes(next)) reached.push(next);
    }
  }
  return [...found, ...outer.filter((edge) => !found.has(edge)), ...inner];
}

function isInner({ source, target }: Edge): boolean {
  return source.includes(WITHIN) && target.includes(WITHIN) && outermost(source) === outermost(target);
}

function outermost(id: string): string {
  return id.split(WITHIN)[0] as string;
}

function last(id: string, name: string): boolean {
  return id.split(WITHIN).at(-1) === name;
}

function shownNode({ id, metadata }: Json): Json {
  if (last(id, END)) return { id };
  const described = metadata !== undefined && Object.keys(metadata).length > 0 ? { metadata } : {};
  // A node is called as the graph calls it, also where another graph is what it runs.
  return { id, type: "runnable", data: { name: id }, ...described };
}

function shownEdge({ conditional, ...edge }: Edge): Json {
  return conditional ? { ...edge, conditional } : edge;
}
