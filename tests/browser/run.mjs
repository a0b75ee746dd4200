// Runs the examples in headless Chromium, against the built Worker, with the network cut and the server killed.
//
//   node tests/browser/run.mjs --bundle DIR [--chromium PROGRAM] [--only chat|live-jobs]
//
// Screenshots go to target/browser. `cargo xtask test browser` runs it, and installs what is missing.

import fs from "node:fs";
import path from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";

import { chromium } from "playwright-core";

import { chat } from "./chat.mjs";
import { liveJobs } from "./live-jobs.mjs";
import { Network, Server, root } from "./stage.mjs";

/** No run takes longer: one that hangs ends, and what it started with it. Milliseconds. */
const RUN_MS_MAX = 240_000;
const TESTS = { chat, "live-jobs": liveJobs };

const { values: options } = parseArgs({
  options: {
    bundle: { type: "string" },
    chromium: { type: "string", default: "/usr/bin/chromium" },
    only: { type: "string" },
  },
});
const folder = path.join(root, "target", "browser");
fs.rmSync(folder, { recursive: true, force: true });
fs.mkdirSync(folder, { recursive: true });
setTimeout(() => {
  process.stderr.write("the tests in a browser took too long\n");
  process.exit(1);
}, RUN_MS_MAX).unref();

const server = new Server(folder, path.resolve(options.bundle));
await server.start();
const network = new Network();
await network.start(server);
// As root Chromium has no sandbox; it is shown nothing here but our own pages.
const browser = await chromium.launch({ executablePath: options.chromium, args: process.getuid?.() === 0 ? ["--no-sandbox"] : [] });
const shot = (page, name) => page.screenshot({ path: path.join(folder, `${name}.png`), animations: "disabled" });
let failed = 0;
for (const [name, test] of Object.entries(TESTS)) {
  if (options.only !== undefined && options.only !== name) continue;
  const began = Date.now();
  try {
    await test({ browser, server, network, shot });
    process.stderr.write(`${name}: passed in ${((Date.now() - began) / 1000).toFixed(1)} s\n`);
  } catch (error) {
    failed += 1;
    process.stderr.write(`${name}: failed\n${error.stack}\n`);
    for (const [index, page] of browser.contexts().flatMap((context) => context.pages()).entries()) {
      await shot(page, `failed-${name}-${index}`).catch(() => {});
      if (page.faults?.length > 0) process.stderr.write(`${page.url()}: ${page.faults.join("; ")}\n`);
    }
  }
  for (const context of browser.contexts()) await context.close();
}
await browser.close();
await server.stop();
process.exit(failed === 0 ? 0 : 1);
