// What the tests in a browser stand on: a server that can be killed, a network that can be cut, and the page of an example.

import childProcess from "node:child_process";
import { createHmac, randomBytes } from "node:crypto";
import { once } from "node:events";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import process from "node:process";
import readline from "node:readline";
import { fileURLToPath } from "node:url";

export const root = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))));

/** How long anything may take that is waited for. Milliseconds. */
const SOON_MS = 30_000;

const children = new Set();
process.on("exit", () => {
  // The server ends its runtime when it is told to; killed outright, it would leave it behind.
  for (const child of children) child.kill("SIGTERM");
});

/** Starts a Node.js program, and gives it with the one JSON line that it prints when it is ready. */
async function start(script, args, log) {
  const child = childProcess.spawn(process.execPath, [path.join(root, script), ...args], {
    stdio: ["ignore", "pipe", log],
    env: { ...process.env, TIDEGATE_REQUEST_LOG: "off" },
  });
  children.add(child);
  child.once("exit", () => children.delete(child));
  const lines = readline.createInterface({ input: child.stdout });
  const [line] = await Promise.race([once(lines, "line"), once(child, "exit").then(() => [undefined])]);
  if (line === undefined) throw new Error(`${script} did not start: see target/browser/server.log`);
  return { child, ready: JSON.parse(line) };
}

/** Waits until `probe` gives something true, and gives that. `what` says what never came. */
export async function eventually(what, probe, ms = SOON_MS) {
  const end = Date.now() + ms;
  for (;;) {
    const found = await probe();
    if (found) return found;
    if (Date.now() > end) throw new Error(`never came: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** The built Worker on workerd, with state of its own. */
export class Server {
  constructor(folder, bundle) {
    this.args = ["--bundle", bundle, "--state", path.join(folder, "state"), "--vars", path.join(folder, "vars")];
    this.vars = path.join(folder, "vars");
    this.log = fs.openSync(path.join(folder, "server.log"), "w");
    this.key = randomBytes(32).toString("base64url");
    const keys = { keys: [{ kty: "oct", kid: "test", alg: "HS256", k: this.key }] };
    const issuers = [{ issuer: "https://browser.test.invalid", audience: "tidegate", tenant_claim: "tid", keys }];
    const text = `TIDEGATE_DEPLOYMENT_KEY='${randomBytes(32).toString("base64url")}'\nTIDEGATE_ISSUERS='${JSON.stringify(issuers)}'\n`;
    fs.writeFileSync(this.vars, text, { mode: 0o600 });
    this.port = 0;
  }

  async start() {
    const { child, ready } = await start("harness/serve.mjs", [...this.args, "--port", String(this.port)], this.log);
    Object.assign(this, { child, ready, port: Number(new URL(ready.url).port) });
  }

  /** As a power cut: nothing is said to anybody, nothing is written any more. */
  async kill() {
    const gone = once(this.child, "exit");
    process.kill(this.ready.workerd_pid, "SIGKILL");
    this.child.kill("SIGKILL");
    await gone;
  }

  async stop() {
    const gone = once(this.child, "exit");
    this.child.kill("SIGTERM");
    await gone;
  }

  /** Asks over HTTP, past the network that is cut; gives the JSON of the answer. */
  async ask(tenant, user, method, where, body, scope = "") {
    const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const claims = { iss: "https://browser.test.invalid", aud: "tidegate", tid: tenant, sub: user, scope, exp: Math.floor(Date.now() / 1000) + 600 };
    const text = `${encode({ alg: "HS256", kid: "test" })}.${encode(claims)}`;
    const signature = createHmac("sha256", Buffer.from(this.key, "base64url")).update(text).digest("base64url");
    const response = await fetch(new URL(where, this.ready.url), {
      method,
      headers: { authorization: `Bearer ${text}.${signature}`, "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const answer = await response.json();
    if (!response.ok) throw new Error(`${method} ${where}: ${JSON.stringify(answer)}`);
    return answer;
  }
}

/** The network between the pages and the server. */
export class Network {
  #pairs = new Set();
  #isCut = false;
  #isDeaf = false;

  async start(server) {
    this.listener = net.createServer((client) => {
      client.on("error", () => {});
      if (this.#isCut) return client.destroy();
      const upstream = net.connect(server.port, "127.0.0.1");
      const pair = [client, upstream];
      this.#pairs.add(pair);
      const end = () => {
        this.#pairs.delete(pair);
        for (const socket of pair) socket.destroy();
      };
      upstream.on("error", () => {});
      client.on("data", (bytes) => upstream.write(bytes));
      upstream.on("data", (bytes) => this.#isDeaf || client.write(bytes));
      for (const socket of pair) socket.on("close", end);
    });
    this.listener.listen(0, "127.0.0.1");
    await once(this.listener, "listening");
    this.url = `http://127.0.0.1:${this.listener.address().port}`;
  }

  /** What the server says is lost from now on; what the pages say arrives. */
  deafen() {
    this.#isDeaf = true;
  }

  /** Ends every connection, and lets none come. */
  cut() {
    this.#isCut = true;
    for (const pair of [...this.#pairs]) for (const socket of pair) socket.destroy();
  }

  restore() {
    this.#isCut = false;
    this.#isDeaf = false;
  }
}

/** Serves an example by the same command that people use. Gives its address. */
export async function serve(example, server, network) {
  const args = [example, "--port", "0", "--tidegate", network.url, "--direct", server.ready.url, "--vars", server.vars];
  const { child, ready } = await start("examples/serve.mjs", args, server.log);
  return { url: ready.url, stop: () => child.kill("SIGTERM") };
}

/** Comes in under a name, in a browser profile of its own. Gives the page; whatever goes wrong on it is kept in `page.faults`. */
export async function enter(browser, url, name, { width = 1000, height = 560, colorScheme = "light" } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme });
  const page = await context.newPage();
  page.faults = [];
  page.on("pageerror", (error) => page.faults.push(String(error)));
  await page.goto(url);
  await page.getByRole("textbox", { name: /name|jobs/ }).fill(name);
  await page.getByRole("button", { name: "Come in" }).click();
  return page;
}

/** Waits until the bar says how the connection is. */
export async function status(page, expected) {
  let said;
  await eventually(`the bar says ${expected}`, async () => (said = await page.locator(".status").getAttribute("data-status")) === expected);
  return page.locator(".status").textContent();
}
