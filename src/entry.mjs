// The entry of the Worker: the bundle's exports, as the platform has to see them.

import { DurableObject } from "cloudflare:workers";
import Worker, { Channel, Hub, Jobs, Tenant } from "./index.js";

// The platform passes a call of a method on to an object only where its class descends from `DurableObject`, and looks at
// that once, when this module has run. The classes that wasm-bindgen makes descend from nothing: here they get their ancestor.
for (const objects of [Channel, Hub, Jobs, Tenant]) Object.setPrototypeOf(objects, DurableObject);

// An exported function of the bundle is a method of the entry point, and has only what its caller gives it: this one needs
// the bindings, too.
const { execute } = Worker.prototype;
Worker.prototype.execute = function (assignment) {
  return execute(assignment, this.env);
};

// Point-in-time recovery of an object (durable_objects/src/recovery.rs). It starts again by a timer of JavaScript, so that what ends
// the object ends it outside of the wasm, and its answer is on its way by then.
globalThis.tidegateGoBack = async (state, to) => {
  const { storage } = state;
  if (typeof to === "number") return [await storage.getBookmarkForTime(to), await storage.getCurrentBookmark()];
  await storage.onNextSessionRestoreBookmark(to);
  setTimeout(() => state.abort("The object goes back to an earlier time."), 100);
  return [];
};

export * from "./index.js";
export { default } from "./index.js";
