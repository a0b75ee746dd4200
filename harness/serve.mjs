// Runs the built Worker on workerd through miniflare, with state that survives a restart.
//
//   node harness/serve.mjs --state DIR [--bundle DIR] [--port N] [--control-port N] [--vars FILE] [--outlive-parent] [--trace]
//       [--handler NAME=FILE] [--faults] [--address-limits N] [--without BINDING]
//
// Bindings come from wrangler.toml alone. When the server answers, one JSON line goes to stdout
// (`ready`, `url`, `control_url`, `pid`, `workerd_pid`); everything else, logs included, goes to stderr.
//
// TIDEGATE_ADDRESS_HEADER, TIDEGATE_AUDIT_ENTRIES, TIDEGATE_LOOPBACK_ENDPOINTS, TIDEGATE_PRICES, TIDEGATE_PUBLIC_URL, TIDEGATE_REQUEST_LOG,
// TIDEGATE_TEMPLATES and TIDEGATE_USAGE_REPORT_MS are passed on from the environment (docs/reference/configuration.md).
// --handler runs the module FILE as a second Worker, and binds it as HANDLER_NAME.
// --address-limits has each limit by address allow N in its period, instead of what wrangler.toml says.
// --without leaves out the binding of that name, as where somebody forgot it.
// --faults puts harness/faulty.mjs before the bundle, whose object storage the control server can then make fail.
//
// --trace is for tests that kill the server: it binds TIDEGATE_TRACE (durable_objects/src/trace.rs), and workerd writes its
// log to stderr itself, as JSON lines, so that whoever reads stderr has every line that was written before the kill.

import childProcess from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import process from "node:process";
import stream from "node:stream";
import { fileURLToPath } from "node:url";
import { parseArgs, parseEnv } from "node:util";

import { setCollector } from "./collector.mjs";
import { listenForControl } from "./control.mjs";
import { startCron } from "./cron.mjs";
import { readable } from "./lines.mjs";
import { claimState, releaseState } from "./state.mjs";

/** Who started this process. Noted first: one that dies while miniflare loads would never be missed. */
const parent = process.ppid;
const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));

// No accounts, no telemetry, no look-ups: the local system needs no network.
Object.assign(process.env, {
  CLOUDFLARE_CF_FETCH_ENABLED: "false",
  DO_NOT_TRACK: "1",
  WRANGLER_HIDE_BANNER: "true",
  WRANGLER_LOG: "warn",
  WRANGLER_LOG_PATH: path.join(root, ".wrangler", "logs"),
  WRANGLER_SEND_ERROR_REPORTS: "false",
  WRANGLER_SEND_METRICS: "false",
});
setCollector(process.env);

const { values: options } = parseArgs({
  options: {
    "address-limits": { type: "string" },
    bundle: { type: "string", default: process.env.TIDEGATE_BUNDLE ?? path.join(root, "build") },
    "control-port": { type: "string" },
    faults: { type: "boolean", default: false },
    handler: { type: "string", multiple: true, default: [] },
    "outlive-parent": { type: "boolean", default: false },
    port: { type: "string", default: "8787" },
    state: { type: "string", default: path.join(root, ".tidegate", "state") },
    trace: { type: "boolean", default: false },
    vars: { type: "string", default: path.join(root, ".dev.vars") },
    without: { type: "string", multiple: true, default: [] },
  },
});

for (const name of ["bundle", "state", "vars"]) options[name] = path.resolve(options[name]);
// stdout carries the one line that a program reads.
console.log = console.info = console.error;

/** How long a disposal may take before the process ends without it. */
const DISPOSE_MS_MAX = 2_000;
/** How often the process looks whether the one that started it is still there. */
const PARENT_POLL_MS = 250;

/** The process id of workerd, which miniflare keeps to itself: seen as miniflare starts it. */
let workerdPid;
const spawn = childProcess.spawn;
childProcess.spawn = (command, args, settings) => {
  const isWorkerd = path.basename(String(command)).startsWith("workerd");
  if (isWorkerd && options.trace) settings.stdio[1] = process.stderr.fd;
  const child = spawn(command, args, settings);
  if (isWorkerd) {
    // miniflare reads what it is not given now: nothing.
    child.stdout ??= stream.Readable.from([]);
    workerdPid = child.pid;
    claimState(options.state, { pid: process.pid, workerd_pid: child.pid });
  }
  return child;
};

try {
  claimState(options.state, { pid: process.pid });
} catch (error) {
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
}
// Temporary files belong to the state directory, so that a killed server leaves none elsewhere.
process.env.TMPDIR = path.join(options.state, "tmp");
fs.rmSync(process.env.TMPDIR, { recursive: true, force: true });
fs.mkdirSync(process.env.TMPDIR);

// Imported only now: the lines above have to be in place when they load.
const { Miniflare, convertV4MiniflareOptions } = await import("miniflare");
const { unstable_getMiniflareWorkerOptions: readWorker, unstable_readConfig: readConfig } = await import("wrangler");

/** Passes on what the Worker logs; without TIDEGATE_LOG=info, the debug lines too. To a terminal, requests as a person reads them. */
function log({ level, message }) {
  if (level === "debug" && process.env.TIDEGATE_LOG === "info") return;
  if (level === "log" && process.stderr.isTTY) {
    process.stderr.write(`${readable(message)}\n`);
    return;
  }
  process.stderr.write(`[${level}] ${message}\n`);
}

/** The variables that whoever starts the server may set. */
const variables = Object.fromEntries(
  [
    "TIDEGATE_ADDRESS_HEADER",
    "TIDEGATE_AUDIT_ENTRIES",
    "TIDEGATE_LOOPBACK_ENDPOINTS",
    "TIDEGATE_PRICES",
    "TIDEGATE_PUBLIC_URL",
    "TIDEGATE_REQUEST_LOG",
    "TIDEGATE_TEMPLATES",
    "TIDEGATE_USAGE_REPORT_MS",
  ]
    .filter((name) => process.env[name] !== undefined)
    .map((name) => [name, process.env[name]]),
);
if (options.trace) variables.TIDEGATE_TRACE = "1";

/** The secrets that may be missing. wrangler takes from the file what wrangler.toml calls required, and nothing else. */
function optionalSecrets() {
  const vars = fs.existsSync(options.vars) ? parseEnv(fs.readFileSync(options.vars, "utf8")) : {};
  const key = vars.TIDEGATE_PREVIOUS_DEPLOYMENT_KEY;
  return key === undefined ? {} : { TIDEGATE_PREVIOUS_DEPLOYMENT_KEY: key };
}

/** The Workers that do jobs: each with its binding and its module. */
const handlers = options.handler.map((text) => {
  const [name, file] = text.split("=");
  return { binding: `HANDLER_${name}`, name: `handler-${name.toLowerCase()}`, file: path.resolve(file) };
});

/** What object storage does, with --faults: "work", "fail" or "hang". */
let objects = "work";
/** What --faults puts before the bundle, and how it asks. */
const faulty = options.faults
  ? {
      modules: [{ type: "ESModule", path: path.join(options.bundle, "faulty.mjs"), contents: fs.readFileSync(path.join(root, "harness", "faulty.mjs"), "utf8") }],
      services: { FAULTS: () => new Response(objects) },
    }
  : { modules: [], services: {} };

/** The options of miniflare for wrangler.toml as it is now, with the bundle as it is now. */
function miniflareOptions() {
  const configPath = path.join(root, "wrangler.toml");
  const { name } = readConfig({ config: configPath });
  const { workerOptions } = readWorker(configPath, undefined, { envFiles: [options.vars] });
  const { modulesRules, ...bindings } = workerOptions;
  if (options["address-limits"] !== undefined) {
    for (const { simple } of Object.values(bindings.ratelimits ?? {})) simple.limit = Number(options["address-limits"]);
  }
  for (const name of options.without) {
    for (const kind of Object.values(bindings)) if (kind !== null && typeof kind === "object") delete kind[name];
  }
  return {
    name,
    crons: bindings.cronTriggers ?? [],
    classes: Object.values(bindings.durableObjects ?? {}).map((object) => object.className),
    // The binding of each class.
    objects: Object.fromEntries(
      Object.entries(bindings.durableObjects ?? {}).map(([binding, object]) => [object.className, binding]),
    ),
    miniflare: convertV4MiniflareOptions({
      host: "127.0.0.1",
      port: Number(options.port),
      cf: false,
      logRequests: false,
      telemetry: { enabled: false },
      resourcePersistencePath: options.state,
      handleStructuredLogs: log,
      workers: [
        {
          ...bindings,
          bindings: { ...bindings.bindings, ...optionalSecrets(), ...variables },
          serviceBindings: {
            ...bindings.serviceBindings,
            ...Object.fromEntries(handlers.map((handler) => [handler.binding, handler.name])),
            ...faulty.services,
          },
          name,
          rootPath: options.bundle,
          modulesRoot: options.bundle,
          modules: [
            ...faulty.modules,
            { type: "ESModule", path: path.join(options.bundle, "entry.mjs") },
            { type: "ESModule", path: path.join(options.bundle, "index.js") },
            { type: "CompiledWasm", path: path.join(options.bundle, "index_bg.wasm") },
          ],
        },
        ...handlers.map((handler) => ({
          name: handler.name,
          compatibilityDate: bindings.compatibilityDate,
          modules: [{ type: "ESModule", path: handler.file }],
          modulesRoot: path.dirname(handler.file),
        })),
      ],
    }),
  };
}

let stopping = false;
let miniflare;

async function stop(code) {
  if (stopping) return;
  stopping = true;
  setTimeout(() => {
    if (workerdPid !== undefined) process.kill(workerdPid, "SIGKILL");
    process.exit(code);
  }, DISPOSE_MS_MAX - 200).unref();
  await miniflare?.dispose().catch(() => {});
  process.exit(code);
}

process.on("exit", () => releaseState(options.state));
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => stop(0));
// A pipe whose reader has gone is no reason to fail: the parent check below decides.
for (const output of [process.stdout, process.stderr]) output.on("error", () => {});

if (!options["outlive-parent"]) {
  setInterval(() => process.ppid !== parent && stop(0), PARENT_POLL_MS).unref();
}

try {
  let worker = miniflareOptions();
  miniflare = new Miniflare(worker.miniflare);
  const url = await miniflare.ready;
  startCron(
    () => worker.crons,
    async (cron) => (await miniflare.getWorker()).scheduled({ cron }),
  );

  let controlUrl;
  if (options["control-port"] !== undefined) {
    controlUrl = await listenForControl(Number(options["control-port"]), {
      pids: () => ({ pid: process.pid, workerd_pid: workerdPid }),
      worker: () => worker,
      miniflare: () => miniflare,
      setObjects(state) {
        if (!options.faults) throw new Error("this server was started without --faults");
        objects = state;
      },
      async reload() {
        worker = miniflareOptions();
        // Keep the address: a port of 0 would be drawn anew.
        worker.miniflare.port = Number(url.port);
        await miniflare.setOptions(worker.miniflare);
      },
    });
  }
  const ready = { ready: true, url: url.origin, control_url: controlUrl, pid: process.pid, workerd_pid: workerdPid };
  process.stdout.write(`${JSON.stringify(ready)}\n`);
} catch (error) {
  process.stderr.write(`The local server could not start: ${error?.message ?? error}\n`);
  await stop(1);
}
