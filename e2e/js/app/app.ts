// An application of the project's own, in front of the server's routes.
import { Client } from "@langchain/langgraph-sdk";
import { Hono } from "hono";
import { stream } from "hono/streaming";

export const app = new Hono();

app.use("*", async (context, next) => {
  if (context.req.header("x-shut") !== undefined) return context.text("shut", 503);
  await next();
  context.header("x-app", "here");
});

app.use("/runs/*", async (context, next) => {
  const look = context.req.header("x-look");
  if (look === "stream") {
    await context.req.raw.body?.getReader().read();
  } else if (look !== undefined) {
    const body = await (look === "raw" ? context.req.raw : context.req).json();
    if (body.input?.text === undefined) return context.text("no text", 400);
  }
  await next();
});

app.get("/greet/:name", (context) => context.json({ hello: context.req.param("name"), q: context.req.query("q") }));

app.post("/length", async (context) => context.json({ length: (await context.req.arrayBuffer()).byteLength }));

app.get("/count", (context) =>
  stream(context, async (out) => {
    for (let number = 0; number < 3; number += 1) await out.write(`${"x".repeat(200_000)}${number}\n`);
  }),
);

// Nobody gives the client an address.
app.get("/asks", async (context) => context.json(await new Client().runs.wait(null, "echo", { input: { text: "hey" } })));

app.get("/fails", () => {
  throw new Error("it fails");
});
