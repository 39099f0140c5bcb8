// A small page that shows the components that graphs speak with.
import { useStream } from "@langchain/langgraph-sdk/react";
import { LoadExternalComponent, experimental_loadShare, uiMessageReducer } from "@langchain/langgraph-sdk/react-ui";
import { createRoot } from "react-dom/client";

const query = new URLSearchParams(location.search);
experimental_loadShare("page-clock", { hour: () => "noon" });

function Page() {
  const [apiUrl, assistantId] = ["api", "assistant"].map((name) => query.get(name));
  const stream = useStream({
    apiUrl,
    assistantId,
    onCustomEvent: (event, { mutate }) => mutate((before) => ({ ...before, ui: uiMessageReducer(before.ui ?? [], event) })),
  });
  return (
    <main>
      <button id="say" onClick={() => stream.submit({ messages: [{ type: "human", content: "show me" }] })}>Say</button>
      <p id="state">{stream.error ? `failed: ${stream.error}` : stream.isLoading ? "busy" : "rests"}</p>
      {stream.values.ui?.map((message) => <LoadExternalComponent className="shown" key={message.id} stream={stream} message={message} />)}
    </main>
  );
}

createRoot(document.body.appendChild(document.createElement("div"))).render(<Page />);
