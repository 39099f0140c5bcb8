// A headless Chromium: the one of the machine, or else one that comes as a package (Linux on x86-64).
import { existsSync } from "node:fs";

import { chromium } from "playwright-core";

// Longer than anything here takes, however busy the machine is.
const timeout = 180_000;

const KNOWN = [
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];

export async function browse() {
  const installed = process.env.CHROMIUM ?? KNOWN.find((path) => existsSync(path));
  if (installed) return chromium.launch({ timeout, executablePath: installed, args: ["--no-sandbox"] });
  if (process.platform !== "linux" || process.arch !== "x64")
    throw new Error("install Chromium or Chrome, or name one in CHROMIUM");
  // The package unpacks the libraries that Chromium needs only where it takes itself to be in such a place.
  process.env.AWS_LAMBDA_JS_RUNTIME ??= "nodejs20.x";
  const { default: packaged } = await import("@sparticuz/chromium");
  const executablePath = await packaged.executablePath();
  return chromium.launch({ timeout, executablePath, args: ["--no-sandbox", "--no-zygote", "--disable-gpu"] });
}
