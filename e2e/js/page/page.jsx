// A small page that shows what `useStream` of @langchain/react makes of a server.
import { useStream } from "@langchain/react";
import { useState } from "react";
import { createRoot } from "react-dom/client";

const query = new URLSearchParams(location.search);

function Page() {
  const [run, setRun] = useState("");
  const [apiUrl, assistantId, threadId] = ["api", "assistant", "thread"].map((name) => query.get(name));
  const stream = useStream({ apiUrl, assistantId, threadId, onCreated: (created) => setRun(created.runId) });
  const say = (content) => stream.submit({ messages: [{ type: "human", content }], topic: content });
  const waits = stream.interrupts.length > 0;
  return (
    <main>
      <button id="say" onClick={() => say("hello page")}>Say</button>
      <button id="stop" onClick={() => stream.stop()}>Stop</button>
      <button id="answer" disabled={!waits} onClick={() => stream.respond(true)}>Yes</button>
      <p id="thread">{stream.threadId}</p>
      <p id="run">{run}</p>
      <p id="state">{stream.error ? `failed: ${stream.error}` : stream.isLoading ? "busy" : "rests"}</p>
      <p id="asked">{waits ? JSON.stringify(stream.interrupts[0].value) : ""}</p>
      <pre id="values">{JSON.stringify(stream.values)}</pre>
      <ol id="messages">{stream.messages.map((message, at) => <li key={at}>{message.getType()}: {message.text}</li>)}</ol>
    </main>
  );
}

createRoot(document.body.appendChild(document.createElement("div"))).render(<Page />);
