// Components that graphs speak with (`ui`): the bundles over HTTP, and `LoadExternalComponent` of the SDK in a browser. The
// graphs are those in Python, or with `THREADYARD_GRAPHS=typescript` those in TypeScript.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer, request } from "node:http";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { Client } from "@langchain/langgraph-sdk";
import { build } from "esbuild";

import { browse } from "./browser.mjs";
import { copied, start, stopAll } from "./server.mjs";

const graph = process.env.THREADYARD_GRAPHS === "typescript" ? "typescript" : "python";
const JAVASCRIPT = "text/javascript; charset=utf-8";
let url;

// The project with graphs in one language alone, and what is changed about it.
function project(change = {}) {
  const folder = copied(join(import.meta.dirname, "components"));
  const config = join(folder, "langgraph.json");
  const whole = JSON.parse(readFileSync(config, "utf8"));
  const only = { graphs: { [graph]: whole.graphs[graph] }, ui: { [graph]: "./ui.tsx", "my-own.ui": "./plain.jsx" } };
  writeFileSync(config, JSON.stringify({ ...whole, ...only, ...change }));
  return { config, file: (name) => join(folder, name) };
}

before(async () => {
  ({ url } = await start(project().config));
});

after(stopAll);

// Asks for a component, as the SDK does, and with headers that `fetch` would not send.
async function component(name, body = { name: "weather" }, headers = {}, server = url) {
  const asked = request(`${server}/ui/${name}`, { method: "POST", headers: { "content-type": "application/json", ...headers } });
  asked.end(typeof body === "string" ? body : JSON.stringify(body));
  const answer = await new Promise((done, failed) => asked.once("response", done).once("error", failed));
  const text = (await answer.setEncoding("utf8").toArray()).join("");
  return { status: answer.statusCode, headers: answer.headers, text };
}

async function until(holds, shown) {
  const end = Date.now() + 30_000;
  while (!(await holds())) {
    if (Date.now() > end) assert.fail(await shown());
    await new Promise((done) => setTimeout(done, 50));
  }
}

test("a component is HTML that links to its bundle where the server was asked", async () => {
  const { port } = new URL(url);
  const html = (place) =>
    `<link rel="stylesheet" href="${place}/ui/${graph}/entrypoint.css" />\n` +
    `<script src="${place}/ui/${graph}/entrypoint.js" onload='__LGUI_${graph}.render("weather", "{{shadowRootId}}")'></script>`;
  const answer = await component(graph);
  assert.equal(answer.status, 200);
  assert.equal(answer.headers["content-type"], "text/plain; charset=utf-8");
  assert.equal(answer.text, html(`http://127.0.0.1:${port}`));
  const asked = async (headers) => (await component(graph, undefined, headers)).text;
  assert.equal(await asked({ host: "localhost:1" }), html("http://localhost:1"));
  assert.equal(await asked({ host: "app.example.com" }), html("//app.example.com"));
  assert.equal(await asked({ host: "app.example.com", "x-forwarded-proto": "https" }), html("https://app.example.com"));
  const plain = await component("my-own.ui", { name: "note" });
  assert.match(plain.text, /^<script src="[^"]*\/ui\/my-own\.ui\/entrypoint\.js" onload='__LGUI_my_own_ui\.render\("note", /);
});

test("what is no component, no bundle or no host is said", async () => {
  // The bundle is not run here: whether it has the component is found out in the page.
  assert.equal((await component(graph, { name: "nobody" })).status, 200);
  const none = await component("nobody");
  assert.deepEqual([none.status, none.text], [404, 'UI not found for agent "nobody"']);
  for (const body of [{}, { name: 1 }, "{", ""]) assert.equal((await component(graph, body)).status, 422, JSON.stringify(body));
  for (const host of ["evil.example/x", 'a"><script>', "a'b", "user@evil.example"]) {
    const answer = await component(graph, undefined, { host });
    assert.ok(answer.status >= 400 && !answer.text.includes("<"), `${host}: ${answer.status} ${answer.text}`);
  }
  const evil = await component(graph, { name: "'><script>" });
  assert.ok(evil.text.includes("&#39;") && evil.text.match(/'/g).length === 2, evil.text);
});

test("files of a bundle are kept by browsers and asked for again", async () => {
  const script = await fetch(`${url}/ui/${graph}/entrypoint.js`);
  assert.equal(script.headers.get("content-type"), JAVASCRIPT);
  assert.equal(script.headers.get("cache-control"), "no-cache");
  assert.match(await script.text(), new RegExp(`var __LGUI_${graph} = `));
  const styles = await fetch(`${url}/ui/${graph}/entrypoint.css`);
  assert.equal(styles.headers.get("content-type"), "text/css; charset=utf-8");
  assert.match(await styles.text(), /\.text-red-500/);
  const again = await fetch(`${url}/ui/${graph}/entrypoint.js`, { headers: { "if-none-match": script.headers.get("etag") } });
  assert.equal(again.status, 304);
  for (const path of [`${graph}/nothing.js`, "nobody/entrypoint.js", `${graph}/..%2f..%2flanggraph.json`, `${graph}/..%2f..%2fui.tsx`]) {
    const answer = await fetch(`${url}/ui/${path}`);
    assert.deepEqual([answer.status, await answer.text()], [404, "File not found"], path);
  }
});

test("what is said with components comes as it was said, and stays in the state", async () => {
  const client = new Client({ apiUrl: url });
  const { thread_id } = await client.threads.create();
  const events = [];
  let run;
  const input = { messages: [{ role: "human", content: "show me" }] };
  for await (const { event, data } of client.runs.stream(thread_id, graph, { input, streamMode: ["custom"] })) {
    if (event === "metadata") run = data.run_id;
    if (event === "custom") events.push(data);
  }
  const said = events.map(({ type, id, name, props }) => ({ type, id, ...(type === "ui" && { name, props }) }));
  assert.deepEqual(said.slice(0, 2).map(({ type, id, name }) => [type, id, name]), [["ui", "shown", "weather"], ["ui", "shown", "weather"]]);
  assert.deepEqual(said[0].props, { city: "Berlin" });
  assert.equal(said[1].props.sky, "clear");
  assert.deepEqual(said[3], { type: "remove-ui", id: said[2].id });
  // LangGraph for Python does not know it in a node.
  for (const { metadata } of events.slice(0, 3)) assert.equal(metadata.run_id, graph === "python" ? null : run);
  assert.equal(events[0].metadata.message_id ?? events[0].metadata.id, "answer");
  assert.equal(events[1].metadata.merge, true);
  const { values } = await client.threads.getState(thread_id);
  assert.deepEqual(values.ui.map(({ id, props }) => [id, props]), [["shown", { city: "Berlin", sky: "clear" }]]);
});

test("a page shows the component in a shadow root, with its styles and what the page shares", async () => {
  const entryPoints = [join(import.meta.dirname, "page/components.jsx")];
  const define = { "process.env.NODE_ENV": '"production"' };
  const bundle = await build({ entryPoints, bundle: true, write: false, format: "esm", jsx: "automatic", logLevel: "error", define });
  const script = bundle.outputFiles[0].text.replaceAll("</script", "<\\/script");
  const html = `<!doctype html><meta charset="utf-8"><body><script type="module">${script}</script>`;
  const site = createServer((_, answer) => answer.setHeader("content-type", "text/html").end(html)).listen(0, "127.0.0.1");
  await new Promise((done) => site.once("listening", done));
  const browser = await browse();
  try {
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${site.address().port}/?${new URLSearchParams({ api: url, assistant: graph })}`);
    await page.click("#say");
    // Shadow roots are looked into by themselves.
    const shown = page.locator(".shown .weather");
    await shown.waitFor();
    await until(
      async () => (await shown.textContent()) === "Weather for Berlin at noon: clear, said after 2 messages",
      async () => `the page shows: ${await page.locator("main").textContent()}: ${await shown.textContent()}`,
    );
    assert.equal(await page.locator(".shown").count(), 1);
    assert.ok(await page.locator(".shown").evaluate((element) => element.shadowRoot !== null));
    const colour = () => shown.evaluate((element) => getComputedStyle(element).color);
    await until(async () => /^oklch\(0\.637 /.test(await colour()), async () => `the colour is ${await colour()}`);
  } finally {
    await browser.close();
    site.closeAllConnections();
    site.close();
  }
});

test("`dev` bundles changed components anew, and keeps the older ones while they are broken", async () => {
  const { config, file } = project();
  const server = await start(config, { command: ["dev"] });
  const bundle = async () => (await fetch(`${server.url}/ui/my-own.ui/entrypoint.js`)).text();
  const note = (text) => `export default { note: () => <p>${text}</p> };\n`;
  assert.match(await bundle(), /text/);
  writeFileSync(file("plain.jsx"), note("the second"));
  await until(async () => (await bundle()).includes("the second"), server.said);
  writeFileSync(file("plain.jsx"), note("{"));
  await until(() => /`ui\.my-own\.ui` can't be bundled; going on with what was bundled before[^]*plain\.jsx:1:/.test(server.said()), server.said);
  assert.match(await bundle(), /the second/);
  writeFileSync(file("plain.jsx"), note("the third"));
  await until(async () => (await bundle()).includes("the third"), server.said);
  writeFileSync(file("styles.css"), '@import "tailwindcss";\n.mine { color: teal; }\n');
  await until(async () => (await (await fetch(`${server.url}/ui/${graph}/entrypoint.css`)).text()).includes(".mine"), server.said);
});

test("components that are broken from the start are mended in `dev`, and stop `serve`", async () => {
  const { config, file } = project();
  const whole = readFileSync(file("plain.jsx"));
  writeFileSync(file("plain.jsx"), "export default {");
  await assert.rejects(start(config, { command: ["serve"] }), /`ui\.my-own\.ui` can't be bundled: [^]*plain\.jsx:1:/);
  const server = await start(config, { command: ["dev"] });
  assert.equal((await component("my-own.ui", { name: "note" }, {}, server.url)).status, 404);
  assert.equal((await component(graph, undefined, {}, server.url)).status, 200);
  writeFileSync(file("plain.jsx"), whole);
  await until(async () => (await component("my-own.ui", { name: "note" }, {}, server.url)).status === 200, server.said);
  const served = await start(config, { command: ["serve"] });
  assert.equal((await component(graph, undefined, {}, served.url)).status, 200);
});

test("who asks for a component has to be known where callers are, and who loads its files has not", async () => {
  const { config } = project({ auth: { path: "./auth.ts:auth" } });
  const server = await start(config, { open: "/ok" });
  assert.equal((await component(graph, undefined, {}, server.url)).status, 401);
  assert.equal((await component(graph, undefined, { authorization: "Bearer word" }, server.url)).status, 200);
  assert.equal((await fetch(`${server.url}/ui/${graph}/entrypoint.js`)).headers.get("content-type"), JAVASCRIPT);
});

test("without components, or with `disable_ui`, there is nothing to ask for", async () => {
  // A file that is not there shows that nothing is bundled.
  for (const change of [{ http: { disable_ui: true }, ui: { [graph]: "./gone.tsx" } }, { ui: {} }]) {
    const server = await start(project(change).config);
    const answer = await component(graph, undefined, {}, server.url);
    assert.deepEqual([answer.status, answer.text], [404, '{"detail":"Not Found"}']);
    assert.equal((await fetch(`${server.url}/ui/${graph}/entrypoint.js`)).status, 404);
    const { paths } = await (await fetch(`${server.url}/openapi.json`)).json();
    assert.equal(paths["/ui/{graph}"], undefined);
  }
});
