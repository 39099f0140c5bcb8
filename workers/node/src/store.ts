// The long-term store of every graph: forwards to the host.

import type {
  BaseStore,
  GetOperation,
  Item,
  ListNamespacesOperation,
  Operation,
  OperationResults,
  PutOperation,
  SearchOperation,
} from "@langchain/langgraph-checkpoint";

import { passOn } from "./batching.ts";
import type { Connection } from "./connection.ts";
import { Kind } from "./frames.mjs";
import type { Index } from "./index.ts";
import { toJson } from "./json.ts";
import type { Kit } from "./kit.ts";
import { currentScope } from "./scope.ts";

interface SavedItem {
  ns: string[];
  key: string;
  value: Buffer;
  created: string;
  updated: string;
  score?: number;
}

/** `store_ttl` of `LOAD`: how long items are kept, and whether reading one begins that anew. */
export interface TimeToLive {
  /** In minutes. */
  default_ttl: number | null;
  refresh_on_read: boolean;
}

/** What the project wants of the store. */
export interface StoreSettings {
  index: Index | undefined;
  ttl: TimeToLive | undefined;
}

/** Makes the store; the HTTP API and all graphs share its items. */
export function hostStore(kit: Kit, connection: Connection, settings: StoreSettings): BaseStore {
  class HostStore extends kit.BaseStore {
    async batch<Op extends readonly Operation[]>(operations: Op): Promise<OperationResults<Op>> {
      const { slot } = currentScope();
      const body = { slot, ops: await Promise.all(operations.map((operation) => withVectors(operation, settings))) };
      const results: unknown[] = await connection.request(Kind.STORE_BATCH, body);
      return results.map((result, index) => unpacked(operations[index], result)) as OperationResults<Op>;
    }
  }
  const store = new HostStore();
  passOn(kit, store);
  return store;
}

async function withVectors(operation: Operation, { index, ttl }: StoreSettings): Promise<object> {
  const body = packed(operation, ttl);
  if (index !== undefined && isPut(operation)) return { ...body, vectors: await index.ofPut(operation) };
  if (index !== undefined && isSearch(operation)) return { ...body, vectors: await index.ofSearch(operation) };
  return body;
}

function packed(operation: Operation, ttl: TimeToLive | undefined): object {
  const refresh = ttl?.refresh_on_read ?? true;
  if (isPut(operation)) {
    const { namespace, key, value } = operation;
    return { op: "put", ns: namespace, key, value: value === null ? null : toJson(value), ttl: ttl?.default_ttl ?? null };
  }
  if (isSearch(operation)) {
    const { namespacePrefix, filter, limit, offset } = operation;
    const wanted = filter === undefined ? null : toJson(filter);
    return { op: "search", ns: namespacePrefix, filter: wanted, limit: limit ?? 10, offset: offset ?? 0, refresh };
  }
  if (isGet(operation)) {
    return { op: "get", ns: operation.namespace, key: operation.key, refresh };
  }
  const { maxDepth, limit, offset } = operation;
  return {
    op: "list",
    prefix: condition(operation, "prefix"),
    suffix: condition(operation, "suffix"),
    max_depth: maxDepth ?? null,
    limit,
    offset,
  };
}

function condition(operation: ListNamespacesOperation, matchType: "prefix" | "suffix"): string[] | null {
  const paths = (operation.matchConditions ?? []).filter((it) => it.matchType === matchType).map((it) => it.path);
  if (paths.length > 1) throw new Error(`namespaces can be listed by one ${matchType}, got ${paths.length}`);
  return paths[0] ?? null;
}

function unpacked(operation: Operation, result: any): unknown {
  if (isPut(operation)) return undefined;
  if (isSearch(operation)) return result.map(item);
  if (isGet(operation)) return result === null ? null : item(result);
  return result;
}

function item({ ns, key, value, created, updated, score }: SavedItem): Item & { score?: number } {
  return {
    namespace: ns,
    key,
    value: JSON.parse(value.toString()),
    createdAt: new Date(created),
    updatedAt: new Date(updated),
    ...(score === undefined ? {} : { score }),
  };
}

function isPut(operation: Operation): operation is PutOperation {
  return "value" in operation;
}

function isSearch(operation: Operation): operation is SearchOperation {
  return "namespacePrefix" in operation;
}

function isGet(operation: Operation): operation is GetOperation {
  return "key" in operation;
}
