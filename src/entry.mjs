// The entry of the Worker: the bundle's exports, and nothing else.
//
// The platform passes a method's call on to an object only where its class descends from `DurableObject`, and looks at that
// once, when this module has run. The classes that wasm-bindgen makes descend from nothing: here they get their ancestor.

import { DurableObject } from "cloudflare:workers";
import { Hub, Jobs, Tenant } from "./index.js";

for (const objects of [Hub, Jobs, Tenant]) Object.setPrototypeOf(objects, DurableObject);

export * from "./index.js";
export { default } from "./index.js";
