// Bundles the project's components, once: the server starts this, waits for its end and reads the files. Plain JavaScript,
// so that a project without graphs in TypeScript needs no loader.
// @ts-check

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

/**
 * @typedef {object} Task
 * @property {string} bundler The folder of `@langchain/langgraph-ui`.
 * @property {string} project
 * @property {string} output Where each bundle gets a folder with its place in `bundles`.
 * @property {[name: string, file: string][]} bundles
 * @property {string[]} shared
 *
 * @typedef {(options: { cwd: string, defs: Record<string, string>, config: { shared: string[] }, output: string }) => Promise<void>} Build
 */

/**
 * @param {string} folder
 * @returns {Promise<Build>}
 */
async function loaded(folder) {
  const { main } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const { build } = await import(pathToFileURL(join(folder, main)).href);
  return build;
}

/**
 * Bundles one file; the reason where that can't be done, so that the others go on.
 *
 * @param {Build} build
 * @param {Task} task
 * @param {number} place
 * @returns {Promise<string | null>}
 */
async function bundle(build, { project, output, bundles, shared }, place) {
  const [name, file] = /** @type {[string, string]} */ (bundles[place]);
  const folder = join(output, String(place));
  mkdirSync(folder);
  try {
    await build({ cwd: project, defs: { [name]: file }, config: { shared }, output: folder });
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** @type {Task} */
const task = JSON.parse(/** @type {string} */ (process.argv[2]));
const build = await loaded(task.bundler);
const failures = await Promise.all(task.bundles.map((_, place) => bundle(build, task, place)));
writeFileSync(join(task.output, "failures.json"), JSON.stringify(failures));
// What the project's own plugins began goes on with nobody to hear of it.
process.exit();
