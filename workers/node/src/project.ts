// What a worker has loaded.

import type { CustomAuth } from "./auth.ts";
import type { CustomApp } from "./custom_app.ts";
import type { Graphs } from "./graphs.ts";
import type { StoreSettings } from "./store.ts";
import type { Tracing } from "./trace_context.ts";

export interface Project extends StoreSettings {
  graphs: Graphs;
  /** The project's OpenTelemetry, where it has that. */
  tracing: Tracing | undefined;
  /** Who decides about access, where that is what the worker is for. */
  auth: CustomAuth | undefined;
  /** The application, where that is what the worker is for. */
  app: CustomApp | undefined;
}
