// Errors as the host hears of them.

import { toJsonText } from "./json.ts";

export interface ErrorBody {
  error: string;
  message: string;
  traceback: string;
}

/** The caller of the API is at fault. */
export class BadRequest extends Error {
  override name = "BadRequest";
}

/** An auth handler threw. Its message may hold what callers prove themselves with, so that it is not passed on. */
export class AuthFailed extends Error {
  readonly body: ErrorBody;

  constructor(thrown: unknown) {
    super("an auth handler failed");
    const known = thrown instanceof Error ? thrown : undefined;
    const frames = (known?.stack ?? "").split("\n").filter((line) => line.startsWith("    at "));
    this.body = { error: text(() => known?.name ?? "Error"), message: this.message, traceback: frames.join("\n") };
  }
}

/** The class, text and stack of whatever was thrown; never throws itself. */
export function errorBody(thrown: unknown): ErrorBody {
  if (thrown instanceof AuthFailed) return thrown.body;
  if (!(thrown instanceof Error) && !looksLikeError(thrown)) {
    const message = said(thrown);
    return { error: "Error", message, traceback: `thrown, though it is no Error: ${message}` };
  }
  return {
    error: text(() => String(thrown.name || thrown.constructor?.name || "Error")),
    message: text(() => String(thrown.message)),
    traceback: text(() => traceback(thrown)),
  };
}

/** LangGraph writes on what nodes throw, which takes an object that can be written on. */
export function thrownAsError(thrown: unknown): unknown {
  if ((typeof thrown === "object" || typeof thrown === "function") && thrown !== null && Object.isExtensible(thrown)) {
    return thrown;
  }
  const isError = thrown instanceof Error;
  const error = new Error(isError ? thrown.message : said(thrown), { cause: thrown });
  if (isError) error.name = thrown.name;
  return error;
}

/** What was thrown, in words. */
function said(thrown: unknown): string {
  return text(() => (typeof thrown === "object" ? toJsonText(thrown) : String(thrown)));
}

function traceback(error: Error): string {
  const own = String(error.stack ?? `${error.name}: ${error.message}`);
  return error.cause instanceof Error ? `${own}\ncaused by: ${traceback(error.cause)}` : own;
}

// Errors of other realms, such as those of `vm`, are no instances of this one's `Error`.
function looksLikeError(thrown: unknown): thrown is Error {
  return typeof thrown === "object" && thrown !== null && "message" in thrown && "stack" in thrown;
}

function text(make: () => string | undefined): string {
  try {
    return (make() ?? "").toWellFormed();
  } catch {
    return "<the error has no text>";
  }
}
