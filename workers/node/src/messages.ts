// The two forms in which chat messages are streamed: `[chunk, metadata]`, and messages as they grow.

import { type Message, streamedMessage, toJson, toJsonText } from "./json.ts";

type Metadata = Record<string, unknown>;

/** JSON of `[message, metadata]`. */
export class TupleEncoder {
  #metadata: Metadata | undefined;
  #metadataText = "";

  encode(message: Message, metadata: Metadata): Buffer {
    // All chunks of a model call come with the same object.
    if (metadata !== this.#metadata) {
      this.#metadata = metadata;
      this.#metadataText = toJsonText(metadata);
    }
    return Buffer.from(`[${toJsonText(streamedMessage(message))},${this.#metadataText}]`);
  }
}

/** Events of the mode `messages`: a message's metadata once, then the message so far with every chunk. */
export class MessageAccumulator {
  readonly #messages = new Map<string | undefined, Message>();

  /** The `[name, data]` of the events that a message or chunk causes. */
  *add(message: Message, metadata: Metadata): Generator<[string, Buffer]> {
    const known = this.#messages.get(message.id);
    if (known === undefined) yield ["messages/metadata", toJson({ [message.id ?? ""]: { metadata } })];
    if (isChunk(message)) {
      const soFar = known !== undefined && isChunk(known) ? known.concat(message) : message;
      this.#messages.set(message.id, soFar);
      yield ["messages/partial", toJson([soFar])];
    } else {
      this.#messages.set(message.id, message);
      yield ["messages/complete", toJson([message])];
    }
  }
}

function isChunk(message: Message): message is Message & Required<Pick<Message, "concat">> {
  return typeof message.concat === "function";
}
