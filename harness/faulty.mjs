// Stands before the bundle, for tests alone (harness/serve.mjs --faults): the Worker and its objects get a bucket that fails
// when it is told to, as R2 does when it is unavailable. What is not asked of the bucket is untouched.

import * as bundle from "./entry.mjs";

/** As worker-rs knows a bucket: by this name. */
class R2Bucket {
  constructor(bucket, faults) {
    for (const method of ["head", "get", "put", "delete", "list", "createMultipartUpload", "resumeMultipartUpload"]) {
      this[method] = async (...args) => {
        const state = await (await faults.fetch("http://faults/objects")).text();
        if (state === "hang") return new Promise(() => {});
        if (state === "fail") throw new Error(`${method}: We encountered an internal error. Please try again. (10001)`);
        return bucket[method](...args);
      };
    }
  }
}

const faulty = (exported) =>
  new Proxy(exported, {
    construct: (target, [context, env], newTarget) =>
      Reflect.construct(target, [context, { ...env, OBJECTS: new R2Bucket(env.OBJECTS, env.FAULTS) }], newTarget),
  });

export default faulty(bundle.default);
export const Channel = faulty(bundle.Channel);
export const Hub = faulty(bundle.Hub);
export const Jobs = faulty(bundle.Jobs);
export const Tenant = faulty(bundle.Tenant);
