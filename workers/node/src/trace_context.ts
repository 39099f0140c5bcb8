// The trace that a run belongs to, for OpenTelemetry in the user's code, where that is installed.

import { createRequire } from "node:module";
import { join } from "node:path";

import type * as opentelemetry from "@opentelemetry/api";

import { packageFolder } from "./kit.ts";

const OPENTELEMETRY = "@opentelemetry/api";
/** `traceparent`: a version, the trace, the span, and flags. */
const PARENT = /^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-|$)/;

export type Tracing = typeof opentelemetry;

/** The project's OpenTelemetry; which copy of it the user's code has does not matter, since they share what is set up. */
export function loadTracing(project: string): Tracing | undefined {
  if (packageFolder(OPENTELEMETRY, project) === undefined) return undefined;
  return createRequire(join(project, "langgraph.json"))(OPENTELEMETRY);
}

/** Runs code whose spans begin below the one that the metadata of a run's config name, if they name one. */
export function below<T>(tracing: Tracing | undefined, metadata: Record<string, unknown> | undefined, code: () => T): T {
  const { traceparent, tracestate } = metadata ?? {};
  if (tracing === undefined || typeof traceparent !== "string") return code();
  const [, traceId, spanId, flags] = PARENT.exec(traceparent) ?? [];
  if (traceId === undefined || spanId === undefined || flags === undefined) return code();
  const { context, createTraceState, trace } = tracing;
  const traceState = typeof tracestate === "string" ? createTraceState(tracestate) : undefined;
  const parent = { traceId, spanId, traceFlags: Number.parseInt(flags, 16), isRemote: true, traceState };
  return context.with(trace.setSpanContext(context.active(), parent), code);
}
