// The control server: what a test may do to a running system and a client may not. On 127.0.0.1, and only when asked for.
//
//   POST /evict      {"class": "Jobs", "name": "t:a:jobs:0", "webSockets": "hibernate" | "close"}   evicts one object
//   POST /evict-all  {"webSockets": …}       evicts every object that has stored something and is awake
//   POST /objects    {"state": "work" | "fail" | "hang"}   what object storage does; of a server with --faults
//   POST /scheduled  {"cron": "* * * * *"}   runs the scheduled handler
//   POST /queue      {"queue": "tidegate-doorbells", "messages": [{"type": "text", "body": …}]}   hands the Worker one batch, and
//                    gives what it did with each message; the type is text, json, bytes (the body in base64) or v8
//   POST /reload                             takes in wrangler.toml and the bundle anew; every socket drops
//   GET  /object?class=Jobs&name=t:a:jobs:0&path=/rows-written   what the object answers, past the Worker: {"status", "text"}
//   GET  /pid                                {"pid", "workerd_pid"}

import http from "node:http";

/** A request larger than this is none of ours. */
const BODY_BYTES_MAX = 65_536;

/** Starts the server and returns its origin. `system` gives access to the running miniflare. */
export async function listenForControl(port, system) {
  const routes = {
    "GET /object": (_, query) => ask(system, query),
    "GET /pid": () => system.pids(),
    "POST /evict": (body) => evict(system, body),
    "POST /evict-all": (body) => evictAll(system, body),
    "POST /queue": (body) => deliver(system, body),
    "POST /objects": ({ state }) => system.setObjects(state),
    "POST /reload": async () => {
      await system.reload();
      return system.pids();
    },
    "POST /scheduled": async ({ cron }) => (await system.miniflare().getWorker()).scheduled({ cron }),
  };
  const server = http.createServer(async (request, response) => {
    const answer = (status, value) => {
      response.writeHead(status, { "content-type": "application/json" });
      response.end(`${JSON.stringify(value)}\n`);
    };
    try {
      // A web page can reach a local port, too; it always says where it comes from.
      if (request.headers.origin !== undefined) return answer(403, { error: "not for web pages" });
      const { pathname, searchParams } = new URL(request.url, "http://control");
      const route = routes[`${request.method} ${pathname}`];
      if (route === undefined) return answer(404, { error: `no such route, there are: ${Object.keys(routes).join(", ")}` });
      answer(200, (await route(await readJson(request), Object.fromEntries(searchParams))) ?? {});
    } catch (error) {
      answer(500, { error: String(error?.message ?? error) });
    }
  });
  await new Promise((resolve, reject) => server.once("error", reject).listen(port, "127.0.0.1", resolve));
  return `http://127.0.0.1:${server.address().port}`;
}

async function readJson(request) {
  const chunks = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += chunk.length;
    if (bytes > BODY_BYTES_MAX) throw new Error(`the body is larger than ${BODY_BYTES_MAX} bytes`);
    chunks.push(chunk);
  }
  return bytes === 0 ? {} : JSON.parse(Buffer.concat(chunks).toString("utf8"));
}

async function ask(system, { class: className, name, path }) {
  const binding = system.worker().objects[className];
  if (binding === undefined) throw new Error(`no class is called ${className}`);
  const namespace = await system.miniflare().getDurableObjectNamespace(binding, system.worker().name);
  const response = await namespace.getByName(name).fetch(`http://object${path}`);
  return { status: response.status, text: await response.text() };
}

async function deliver(system, { queue, messages }) {
  const worker = await system.miniflare().getWorker();
  const bodies = { bytes: (body) => new Uint8Array(Buffer.from(body, "base64")), v8: (body) => new Map([["v8", body]]) };
  const batch = messages.map(({ type, body }, index) => {
    const as = bodies[type] ?? ((same) => same);
    return { id: `message-${index}`, timestamp: new Date(), attempts: 1, body: as(body) };
  });
  const { outcome, retryBatch, ackAll, explicitAcks, retryMessages } = await worker.queue(queue, batch);
  return { outcome, retry_batch: retryBatch?.retry ?? false, ack_all: ackAll, acks: explicitAcks, retries: retryMessages };
}

async function evict(system, { class: className, name, id, webSockets = "hibernate" }) {
  await system.miniflare().unsafeEvictDurableObject(system.worker().name, className, { name, id, webSockets });
  return { evicted: 1 };
}

async function evictAll(system, { webSockets = "hibernate" }) {
  const objects = [];
  for (const className of system.worker().classes) {
    for (const id of await system.miniflare().listDurableObjectIds(className)) objects.push({ className, id });
  }
  let evicted = 0;
  for (const { className, id } of objects) {
    await system.miniflare().unsafeEvictDurableObject(system.worker().name, className, { id, webSockets });
    evicted += 1;
  }
  return { evicted };
}
