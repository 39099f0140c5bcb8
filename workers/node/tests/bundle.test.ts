// The script that bundles components, with a bundler that the test makes.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { afterEach, beforeEach, expect, test } from "vitest";

const script = fileURLToPath(new URL("../src/bundle.mjs", import.meta.url));
/** Writes what it is asked, fails for one file, and begins something that never ends. */
const BUNDLER = `
import { mkdirSync, writeFileSync } from "node:fs";
setInterval(() => {}, 1000);
export async function build({ cwd, defs, config, output }) {
  const [[name, file]] = Object.entries(defs);
  if (file === "./broken.tsx") throw new Error("broken.tsx:1:1: Unexpected end of file");
  mkdirSync(output + "/public/" + name, { recursive: true });
  writeFileSync(output + "/public/" + name + "/entrypoint.js", JSON.stringify({ cwd, file, config }));
}
`;

let folder: string;
let output: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "threadyard-bundle-"));
  output = join(folder, "output");
  mkdirSync(output);
});

afterEach(() => rmSync(folder, { recursive: true }));

function task(bundles: [string, string][]): string {
  return JSON.stringify({ bundler: folder, project: "/project", output, bundles, shared: ["zod"] });
}

function bundler(code: string): void {
  writeFileSync(join(folder, "package.json"), JSON.stringify({ type: "module", main: "./index.mjs" }));
  writeFileSync(join(folder, "index.mjs"), code);
}

test("each bundle has a folder of its own, and a broken one prevents only itself", () => {
  bundler(BUNDLER);
  execFileSync(process.execPath, [script, task([["a", "./a.tsx"], ["b", "./broken.tsx"], ["c", "./c.tsx"]])]);
  const failures = JSON.parse(readFileSync(join(output, "failures.json"), "utf8"));
  expect(failures).toEqual([null, "broken.tsx:1:1: Unexpected end of file", null]);
  const made = (place: number, name: string) => JSON.parse(readFileSync(join(output, `${place}/public/${name}/entrypoint.js`), "utf8"));
  expect(made(0, "a")).toEqual({ cwd: "/project", file: "./a.tsx", config: { shared: ["zod"] } });
  expect(made(2, "c").file).toBe("./c.tsx");
});

test("a bundler that can't be loaded says why, and nothing was bundled", () => {
  bundler("export const build = ;");
  const { status, stderr } = spawnSync(process.execPath, [script, task([["a", "./a.tsx"]])], { encoding: "utf8" });
  expect(status).not.toBe(0);
  expect(stderr).toContain("SyntaxError");
});
