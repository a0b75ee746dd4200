// Runs the baseline objects the way harness/serve.mjs runs the Worker: same workerd, same options, state on disk.
//
//   node bench/baseline/serve.mjs --state DIR [--realtime NAME]
//
// --realtime runs the object of bench/baseline/realtime/NAME.mjs with what it imports, instead of those of objects.mjs.
//
// When it answers, one JSON line goes to stdout (`ready`, `url`, `pid`, `workerd_pid`). It ends with its parent.

import childProcess from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { setCollector } from "../../harness/collector.mjs";

Object.assign(process.env, { CLOUDFLARE_CF_FETCH_ENABLED: "false", DO_NOT_TRACK: "1", WRANGLER_SEND_METRICS: "false" });
setCollector(process.env);

const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.dirname(path.dirname(here));
const { values: options } = parseArgs({ options: { realtime: { type: "string" }, state: { type: "string" } } });
const state = path.resolve(options.state);
console.log = console.info = console.error;

/** How long a disposal may take before the process ends without it. */
const DISPOSE_MS_MAX = 1_800;
/** How often the process looks whether the one that started it is still there. */
const PARENT_POLL_MS = 250;

// miniflare keeps the process id of workerd to itself.
let workerdPid;
const spawn = childProcess.spawn;
childProcess.spawn = (command, ...rest) => {
  const child = spawn(command, ...rest);
  if (path.basename(String(command)).startsWith("workerd")) workerdPid = child.pid;
  return child;
};

process.env.TMPDIR = path.join(state, "tmp");
fs.mkdirSync(process.env.TMPDIR, { recursive: true });
const { Miniflare, convertV4MiniflareOptions } = await import("miniflare");

// The same date as the Worker's: what the runtime does may depend on it.
const [, compatibilityDate] = /^compatibility_date = "(.+)"$/m.exec(
  fs.readFileSync(path.join(root, "wrangler.toml"), "utf8"),
);

/** The module of `--realtime` and what it imports from npm, as one. */
async function bundled(name) {
  const { build } = await import("esbuild");
  const outfile = path.join(state, `${name}.mjs`);
  await build({
    entryPoints: [path.join(here, "realtime", `${name}.mjs`)],
    outfile,
    bundle: true,
    format: "esm",
    platform: "node",
    mainFields: ["module", "main"],
    conditions: ["workerd", "worker", "browser"],
    external: ["cloudflare:*"],
    // Some of what is imported is CommonJS.
    banner: { js: 'import { createRequire } from "node:module"; const require = createRequire("/");' },
    logLevel: "error",
  });
  return outfile;
}

/** What one Worker consists of. */
async function worker() {
  if (options.realtime === undefined) {
    return {
      modulesRoot: here,
      modules: [{ type: "ESModule", path: path.join(here, "objects.mjs") }],
      durableObjects: {
        ECHO: { className: "Echo", useSQLite: true },
        FRONT: { className: "Front", useSQLite: true },
        STORE: { className: "Store", useSQLite: true },
      },
    };
  }
  return {
    compatibilityFlags: ["nodejs_compat"],
    modulesRoot: state,
    modules: [{ type: "ESModule", path: await bundled(options.realtime) }],
    durableObjects: { PEER: { className: "Peer", useSQLite: true } },
  };
}

const miniflare = new Miniflare(
  convertV4MiniflareOptions({
    host: "127.0.0.1",
    port: 0,
    cf: false,
    logRequests: false,
    telemetry: { enabled: false },
    resourcePersistencePath: state,
    workers: [
      {
        name: "baseline",
        compatibilityDate,
        ...(await worker()),
      },
    ],
  }),
);

let stopping = false;
async function stop(code) {
  if (stopping) return;
  stopping = true;
  setTimeout(() => {
    if (workerdPid !== undefined) process.kill(workerdPid, "SIGKILL");
    process.exit(code);
  }, DISPOSE_MS_MAX).unref();
  await miniflare.dispose().catch(() => {});
  process.exit(code);
}
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => stop(0));
const parent = process.ppid;
setInterval(() => process.ppid !== parent && stop(0), PARENT_POLL_MS).unref();

const url = await miniflare.ready;
process.stdout.write(`${JSON.stringify({ ready: true, url: url.origin, pid: process.pid, workerd_pid: workerdPid })}\n`);
