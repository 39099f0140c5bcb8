// Finding items by their meaning: the embedding function or object that `store.index` of langgraph.json names.

import type { PutOperation, SearchOperation } from "@langchain/langgraph-checkpoint";

import { toJson } from "./json.ts";
import { GraphLoadError, loadName } from "./loading.ts";

type Vector = number[];
type EmbedTexts = (texts: string[]) => Promise<Vector[]> | Vector[];

/** What makes vectors, as LangChain calls it. */
interface Embeddings {
  embedDocuments(texts: string[]): Promise<Vector[]>;
  embedQuery(text: string): Promise<Vector>;
}

/** `store_index` of `LOAD`. */
export interface IndexConfig {
  embed: string;
  fields: string[];
}

/** Makes vectors of texts. */
export class Index {
  readonly #embeddings: Embeddings;
  readonly #fields: string[];

  constructor(embeddings: Embeddings, fields: string[]) {
    this.#embeddings = embeddings;
    this.#fields = fields;
  }

  /** The index that the project configures: a function of texts, or an `Embeddings` object. */
  static async load({ embed, fields }: IndexConfig, project: string): Promise<Index> {
    const loaded = (await loadName(embed, project)) as Partial<Embeddings> | EmbedTexts;
    if (typeof loaded === "function") return new Index(ofFunction(loaded), fields);
    if (typeof loaded?.embedDocuments === "function" && typeof loaded.embedQuery === "function") {
      return new Index(loaded as Embeddings, fields);
    }
    throw new GraphLoadError(`\`${embed}\` is neither a function of texts nor an \`Embeddings\` object`);
  }

  /** The texts of an item, in the fields given or else in those that the project names. */
  texts(value: unknown, fields?: string[] | null): string[] {
    return (fields ?? this.#fields).flatMap((path) => textsAt(value, path));
  }

  /** A vector for each text; texts that occur twice are embedded once. */
  async ofTexts(texts: string[]): Promise<Vector[]> {
    const distinct = [...new Set(texts)];
    if (distinct.length === 0) return [];
    const vectors = await this.#embeddings.embedDocuments(distinct);
    if (vectors.length !== distinct.length) {
      throw new RangeError(`the embedding function made ${vectors.length} vectors of ${distinct.length} texts`);
    }
    const known = new Map(distinct.map((text, index) => [text, vectors[index]]));
    return texts.map((text) => known.get(text) as Vector);
  }

  /** The vector of what somebody looks for. */
  async ofQuery(query: string): Promise<Vector> {
    return await this.#embeddings.embedQuery(query);
  }

  /** The vectors of an item to be written, as the wire carries them. */
  async ofPut({ value, index }: PutOperation): Promise<Buffer[]> {
    if (value === null || index === false) return [];
    // As the host keeps it: what is no JSON by itself is text by then.
    const texts = this.texts(JSON.parse(toJson(value).toString()), Array.isArray(index) ? index : undefined);
    return (await this.ofTexts(texts)).map(packed);
  }

  /** The vector of a query, as the wire carries it; none for a search without one. */
  async ofSearch({ query }: SearchOperation): Promise<Buffer[]> {
    return query ? [packed(await this.ofQuery(query))] : [];
  }
}

function ofFunction(embed: EmbedTexts): Embeddings {
  return {
    embedDocuments: async (texts) => await embed(texts),
    embedQuery: async (text) => (await embed([text]))[0],
  };
}

/** A vector as the wire carries it: 32-bit floats, little end first. */
function packed(vector: Vector): Buffer {
  const bytes = Buffer.allocUnsafe(vector.length * 4);
  vector.forEach((number, index) => bytes.writeFloatLE(number, index * 4));
  return bytes;
}

/** The texts at a path such as `$`, `title`, `tags[*].name` or `{a,b}`. */
export function textsAt(value: unknown, path: string): string[] {
  if (path === "" || path === "$") return [stable(value)];
  return valuesAt(value, path).flatMap(texts);
}

function valuesAt(value: unknown, path: string): unknown[] {
  return steps(path).reduce<unknown[]>((found, step) => found.flatMap((it) => below(it, step)), [value]);
}

function steps(path: string): string[] {
  return path.match(/\{[^}]*\}|\[[^\]]*\]|[^.[\]{}]+/g) ?? [];
}

function below(value: any, step: string): unknown[] {
  if (value === null || typeof value !== "object") return [];
  if (step.startsWith("{")) {
    return step.slice(1, -1).split(",").flatMap((name) => valuesAt(value, name.trim()));
  }
  if (step === "*") return Object.values(value);
  if (!step.startsWith("[")) return step in value ? [value[step]] : [];
  if (!Array.isArray(value)) return [];
  const index = step.slice(1, -1).trim();
  return index === "*" ? value : value.slice(Number(index)).slice(0, 1);
}

function texts(found: unknown): string[] {
  if (typeof found === "string") return [found];
  if (typeof found === "number" || typeof found === "boolean") return [String(found)];
  return found === null || found === undefined ? [] : [stable(found)];
}

/** JSON whose keys are in order, so that equal values make equal vectors. */
function stable(value: unknown): string {
  const sorted = (_: string, it: unknown) =>
    it !== null && typeof it === "object" && !Array.isArray(it) ? Object.fromEntries(Object.entries(it).sort()) : it;
  return JSON.stringify(value, sorted);
}
