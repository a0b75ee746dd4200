// Serves the page of an example, and mints development tokens for it: what your own server does for your own pages.
//
//   node examples/serve.mjs chat --tidegate http://127.0.0.1:8787 --vars .dev.vars [--port 8080] [--direct URL]
//
// First it gives the example a tenant of its own with the composition of its folder, and stores the data that it is about. Then one
// JSON line goes to stdout (`url`). Everybody who reaches the page can come in under any name, so it listens on 127.0.0.1 alone.
// --direct: where this process reaches Tidegate, if that is not where the page does.

import { createHmac } from "node:crypto";
import { once } from "node:events";
import { createReadStream, existsSync, readFileSync, statSync } from "node:fs";
import { createServer } from "node:http";
import path from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs, parseEnv } from "node:util";

// Whoever started this is gone, and with it whoever could stop it.
const parent = process.ppid;
setInterval(() => process.ppid !== parent && process.exit(0), 500).unref();

const here = path.dirname(fileURLToPath(import.meta.url));
const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    direct: { type: "string" },
    port: { type: "string", default: "8080" },
    tidegate: { type: "string", default: "http://127.0.0.1:8787" },
    vars: { type: "string", default: path.join(here, "..", ".dev.vars") },
  },
});
const folder = path.join(here, positionals[0] ?? "");
if (!existsSync(path.join(folder, "index.html"))) fail(`There is no example ${JSON.stringify(positionals[0])}.`);
const tenant = `example-${positionals[0]}`;

/** How long a token is good. The page gets another one whenever it connects, and before the one of its socket expires. Seconds. */
const TOKEN_S = 600;
const NAME = /^(?=.*[\p{L}\p{N}])[\p{L}\p{N} ._-]{1,32}$/u;
const TYPES = { ".css": "text/css", ".html": "text/html; charset=utf-8", ".js": "text/javascript" };
/** What an example works on: kept under this name, where the file is there. */
const OBJECTS = { "live-jobs": ["zips.csv"] };

function fail(why) {
  process.stderr.write(`${why}\n`);
  process.exit(1);
}

/** The issuer whose key this deployment has been given to sign development tokens with. */
const [issuer] = JSON.parse(parseEnv(readFileSync(options.vars, "utf8")).TIDEGATE_ISSUERS);

/** A JSON Web Token (RFC 7519) with HS256. */
function mint(sub, scope = "") {
  const [key] = issuer.keys.keys;
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const now = Math.floor(Date.now() / 1000);
  const claims = { iss: issuer.issuer, aud: issuer.audience, [issuer.tenant_claim]: tenant, sub, scope, iat: now, exp: now + TOKEN_S };
  const text = `${encode({ alg: "HS256", typ: "JWT", kid: key.kid })}.${encode(claims)}`;
  return `${text}.${createHmac("sha256", Buffer.from(key.k, "base64url")).update(text).digest("base64url")}`;
}

/** Does what an administrator would do once. */
async function put(where, body, headers = {}) {
  const response = await fetch(new URL(where, options.direct ?? options.tidegate), {
    method: "PUT",
    headers: { authorization: `Bearer ${mint("setup", "admin")}`, ...headers },
    body,
  });
  if (!response.ok) fail(`PUT ${where}: ${await response.text()}`);
}

await put("/v1/admin/composition", readFileSync(path.join(folder, "composition.json")));
for (const name of OBJECTS[positionals[0]] ?? []) {
  const file = path.join(here, "data", name);
  if (!existsSync(file)) fail(`${file} is missing: cargo xtask data puts it there.`);
  await put(`/v1/objects/${name}`, readFileSync(file), { "content-type": "text/csv" });
}

const { origin, host } = new URL(options.tidegate);
const HEADERS = {
  "cache-control": "no-store",
  // The page loads nothing from elsewhere, and talks to Tidegate alone. A report that it opens has styles of its own.
  "content-security-policy": `default-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self' ${origin} ws://${host} wss://${host}`,
  "x-content-type-options": "nosniff",
};

const server = createServer(async (request, response) => {
  const answer = (status, value) => {
    response.writeHead(status, { ...HEADERS, "content-type": "application/json" }).end(JSON.stringify(value));
  };
  try {
    const { pathname } = new URL(request.url, "http://page");
    // A page of another name that resolves to this machine is not ours.
    if (!/^(127\.0\.0\.1|localhost):\d+$/.test(request.headers.host)) return answer(403, { error: "not this host" });
    if (pathname === "/session" && request.method === "POST") {
      const name = (await read(request)).name;
      if (typeof name !== "string" || !NAME.test(name)) return answer(400, { error: "a name of 1 to 32 letters, digits and . _ -" });
      return answer(200, { url: origin, token: mint(name) });
    }
    const file = fileOf(pathname);
    if (request.method !== "GET" || file === undefined) return answer(404, { error: "not found" });
    response.writeHead(200, { ...HEADERS, "content-type": TYPES[path.extname(file)] });
    createReadStream(file).pipe(response);
  } catch (error) {
    answer(400, { error: String(error.message) });
  }
});

/** A file of the example or of what all share. Nothing else is served. */
function fileOf(pathname) {
  const name = pathname === "/" ? "/index.html" : pathname;
  const file = name.startsWith("/shared/") ? path.join(here, name) : path.join(folder, name);
  const isInside = file.startsWith(folder + path.sep) || file.startsWith(path.join(here, "shared") + path.sep);
  return isInside && path.extname(file) in TYPES && existsSync(file) && statSync(file).isFile() ? file : undefined;
}

async function read(request) {
  const chunks = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += chunk.length;
    if (bytes > 4096) throw new Error("the body is too long");
    chunks.push(chunk);
  }
  return JSON.parse(Buffer.concat(chunks).toString());
}

server.listen(Number(options.port), "127.0.0.1");
server.on("error", (error) => fail(`The page cannot be served: ${error.message}`));
await once(server, "listening");
process.stdout.write(`${JSON.stringify({ url: `http://127.0.0.1:${server.address().port}` })}\n`);
