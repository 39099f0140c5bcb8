// Components for pages: styled by Tailwind, with a module that the page brings along, and with the state of the thread.
import { useStreamContext } from "@langchain/langgraph-sdk/react-ui";
// @ts-expect-error It is there in the page alone.
import { hour } from "page-clock";

import "./styles.css";

const Weather = ({ city, sky }: { city: string; sky?: string }) => {
  const { messages } = useStreamContext<{ messages: unknown[] }>();
  return (
    <p className="weather text-red-500">
      Weather for {city} at {hour()}: {sky ?? "unknown"}, said after {messages.length} messages
    </p>
  );
};

export default { weather: Weather };
