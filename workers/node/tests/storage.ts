// Checkpoints and store items in memory, kept, filtered and ordered as docs/worker-protocol.md says.

type Body = Record<string, any>;

/** What `CP_PUT`, `CP_WRITES` and `CP_CALL` act on. */
export class Checkpoints {
  readonly rows = new Map<string, Body>();
  readonly #blobs = new Map<string, [type: string, data: Buffer]>();
  readonly #writes = new Map<string, Map<string, any[]>>();

  put({ blobs, ...row }: Body): void {
    this.rows.set(keyOf(row.thread, row.ns, row.id), row);
    for (const [channel, version, type, data] of blobs) {
      this.#blobs.set(keyOf(row.thread, row.ns, channel, version), [type, data]);
    }
  }

  putWrites({ thread, ns, id, task, path, writes }: Body): void {
    const key = keyOf(thread, ns, id);
    const kept = this.#writes.get(key) ?? new Map();
    this.#writes.set(key, kept);
    for (const [index, channel, type, data] of writes) {
      const place = keyOf(task, index);
      if (index < 0 || !kept.has(place)) kept.set(place, [task, path, index, channel, type, data]);
    }
  }

  call(body: Body): any {
    if (body.op === "get") return this.#get(body);
    if (body.op === "list") return this.#list(body);
    if (body.op === "delete_thread") return this.#deleteThread(body.thread);
    throw new Error(`unexpected call ${body.op}`);
  }

  /** The newest checkpoint of a thread. */
  head(thread: string): Body | null {
    return this.#get({ thread, ns: "", id: null });
  }

  /** How large the blobs of a thread are. */
  blobs(thread: string): number[] {
    return [...this.#blobs].filter(([key]) => JSON.parse(key)[0] === thread).map(([, [, data]]) => data.length);
  }

  /** Takes the content of a thread's blobs away. */
  empty(thread: string): void {
    for (const [key, [type]] of this.#blobs) if (JSON.parse(key)[0] === thread) this.#blobs.set(key, [type, Buffer.of()]);
  }

  #get({ thread, ns, id }: Body): Body | null {
    const ids = [...this.rows.values()].filter((row) => row.thread === thread && row.ns === ns).map((row) => row.id);
    const wanted = id ?? ids.sort().at(-1);
    return ids.includes(wanted) ? this.#tuple(keyOf(thread, ns, wanted)) : null;
  }

  #list({ thread, ns, filter, before, limit }: Body): Body[] {
    const wanted = Object.entries(filter === null ? {} : JSON.parse(filter.toString()));
    const newestFirst = [...this.rows].sort(([, one], [, other]) => (one.id < other.id ? 1 : -1));
    const found = newestFirst.filter(([, row]) => {
      const metadata = JSON.parse(row.metadata.toString());
      const here = (thread === null || row.thread === thread) && (ns === null || row.ns === ns);
      return here && (before === null || row.id < before) && wanted.every(([key, value]) => metadata[key] === value);
    });
    return found.slice(0, limit ?? undefined).map(([key]) => this.#tuple(key));
  }

  #deleteThread(thread: string): null {
    for (const kept of [this.rows, this.#blobs, this.#writes]) {
      for (const key of kept.keys()) if (JSON.parse(key)[0] === thread) kept.delete(key);
    }
    return null;
  }

  #tuple(key: string): Body {
    const row = this.rows.get(key) as Body;
    const versions: Record<string, string> = JSON.parse(row.checkpoint.toString()).channel_versions;
    const blobs = Object.entries(versions).flatMap(([channel, version]) => {
      const blob = this.#blobs.get(keyOf(row.thread, row.ns, channel, String(version)));
      return blob === undefined ? [] : [[channel, String(version), ...blob]];
    });
    return { ...row, blobs, writes: [...(this.#writes.get(key)?.values() ?? [])] };
  }
}

/** What `STORE_BATCH` acts on. Time stands still but for its sequence. */
export class Items {
  readonly #rows = new Map<string, Body>();
  #clock = 0;

  /** A batch reads what was there before it and then writes, as langgraph's own stores do. */
  batch(ops: Body[]): any[] {
    const results = ops.map((op) => {
      if (op.op === "get") return this.#rows.get(keyOf(op.ns, op.key)) ?? null;
      if (op.op === "search") return this.#search(op);
      return op.op === "list" ? this.#list(op) : null;
    });
    for (const op of ops.filter((op) => op.op === "put")) this.#put(op);
    return results;
  }

  #put({ ns, key, value }: Body): void {
    const place = keyOf(ns, key);
    if (value === null) return void this.#rows.delete(place);
    this.#clock += 1;
    const now = `2024-01-01T00:00:00.${String(this.#clock).padStart(6, "0")}Z`;
    this.#rows.set(place, { ns, key, value, created: this.#rows.get(place)?.created ?? now, updated: now });
  }

  #search({ ns, filter, offset, limit }: Body): Body[] {
    const wanted = Object.entries(filter === null ? {} : JSON.parse(filter.toString()));
    const found = [...this.#rows.values()].filter((row) => {
      const value = JSON.parse(row.value.toString());
      return startsWith(row.ns, ns) && wanted.every(([key, it]) => value[key] === it);
    });
    return found.slice(offset, offset + limit);
  }

  #list({ prefix, max_depth, offset, limit }: Body): string[][] {
    const found = [...this.#rows.values()].filter((row) => startsWith(row.ns, prefix ?? []));
    const names = new Set(found.map((row) => JSON.stringify(row.ns.slice(0, max_depth ?? undefined))));
    return [...names].sort().slice(offset, offset + limit).map((name) => JSON.parse(name));
  }
}

function keyOf(...parts: unknown[]): string {
  return JSON.stringify(parts);
}

function startsWith(ns: string[], prefix: string[]): boolean {
  return prefix.every((label, index) => ns[index] === label);
}
