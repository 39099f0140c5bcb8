// `useStream` of @langchain/react in a headless browser, on a small page, against the built binary.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";

import { Client } from "@langchain/langgraph-sdk";
import { build } from "esbuild";

import { browse } from "./browser.mjs";
import { serve, stopAll } from "./server.mjs";

// Longer than anything here takes, however busy the machine is.
const PATIENCE = 120_000;

let urls, site, browser, page;

before(async () => {
  const entryPoints = [join(import.meta.dirname, "page/page.jsx")];
  const options = { entryPoints, bundle: true, write: false, format: "esm", jsx: "automatic", logLevel: "error" };
  const [bundle, quickstart, gallery, slow] = await Promise.all([
    build({ ...options, define: { "process.env.NODE_ENV": '"production"' } }),
    serve("quickstart"),
    serve("gallery"),
    serve("../e2e/js/project"),
  ]);
  urls = { quickstart, gallery, slow };
  const script = bundle.outputFiles[0].text.replaceAll("</script", "<\\/script");
  const html = `<!doctype html><meta charset="utf-8"><body><script type="module">${script}</script>`;
  site = createServer((_, answer) => answer.setHeader("content-type", "text/html").end(html)).listen(0, "127.0.0.1");
  await new Promise((done) => site.once("listening", done));
  browser = await browse();
});

beforeEach(async () => {
  await page?.close();
  page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE);
});

after(async () => {
  await browser?.close();
  site?.closeAllConnections();
  site?.close();
  stopAll();
});

async function open(server, assistant, thread) {
  const query = new URLSearchParams({ api: urls[server], assistant, ...(thread && { thread }) });
  await page.goto(`http://127.0.0.1:${site.address().port}/?${query}`);
  await page.waitForSelector("#say");
}

const shown = (id) => page.locator(`#${id}`).textContent();
const messages = () => page.locator("#messages li").allTextContents();

// Waits until the page shows what is expected, and says what it showed when it does not.
async function until(holds) {
  const end = Date.now() + PATIENCE;
  while (!(await holds())) {
    if (Date.now() > end) assert.fail(`the page shows: ${await page.locator("main").textContent()}`);
    await new Promise((done) => setTimeout(done, 20));
  }
}

test("a page shows a message as it grows, and again when it is loaded anew", async () => {
  await open("quickstart", "agent");
  await page.evaluate(() => {
    window.seen = new Set();
    const note = () => window.seen.add(document.querySelector("#messages li:last-child:nth-child(even)")?.textContent);
    new MutationObserver(note).observe(document.body, { childList: true, subtree: true, characterData: true });
  });
  // A page that gets no time while the words come shows all of them at once: then it is asked again.
  let partial = [];
  for (let count = 2; partial.length < 2 && count <= 20; count += 2) {
    const before = await messages();
    await page.evaluate(() => window.seen.clear());
    await page.click("#say");
    await until(async () => (await messages()).length === count && (await shown("state")) === "rests");
    const answer = (await messages()).at(-1);
    const seen = await page.evaluate(() => [...window.seen]);
    partial = seen.filter((text) => text && text !== answer && !before.includes(text));
    assert.ok(partial.every((text) => answer.startsWith(text)), JSON.stringify(partial));
  }
  assert.ok(partial.length > 1, JSON.stringify(partial));
  const said = await messages();
  assert.equal(said[0], "human: hello page");

  const thread = await shown("thread");
  const client = new Client({ apiUrl: urls.quickstart });
  const { values } = await client.threads.getState(thread);
  assert.equal(values.messages.length, said.length);
  await open("quickstart", "agent", thread);
  await until(async () => (await messages()).length === said.length);
  assert.deepEqual(await messages(), said);
  await page.click("#say");
  await until(async () => (await messages()).length === said.length + 2 && (await shown("state")) === "rests");
});

test("a page asks what a graph asks, and passes the answer on", async () => {
  await open("gallery", "review");
  await page.click("#say");
  await until(async () => (await shown("asked")) !== "");
  assert.equal(JSON.parse(await shown("asked")).question, "Publish this?");
  await page.click("#answer");
  await until(async () => JSON.parse(await shown("values")).approved === true);
  await until(async () => (await shown("asked")) === "" && (await shown("state")) === "rests");
});

// A page knows what to stop when its run is made, and shows its own message before.
async function begun() {
  await open("slow", "slow");
  await page.click("#say");
  await until(async () => (await shown("run")) !== "" && (await shown("state")) === "busy");
}

test("a page stops a run", async () => {
  await begun();
  await page.click("#stop");
  await until(async () => (await shown("state")) === "rests");
  const client = new Client({ apiUrl: urls.slow });
  const thread = await shown("thread");
  await until(async () => (await client.runs.list(thread)).every((run) => run.status === "interrupted"));
});

test("a page that is loaded anew in the middle of a run shows that it goes on, and that it ends", async () => {
  await begun();
  const thread = await shown("thread");
  await open("slow", "slow", thread);
  await until(async () => (await shown("state")) === "busy" && (await messages()).length === 1);
  const client = new Client({ apiUrl: urls.slow });
  const [run] = await client.runs.list(thread);
  await client.runs.cancel(thread, run.run_id);
  await until(async () => (await shown("state")) === "rests");
  assert.deepEqual(await messages(), ["human: hello page"]);
});
