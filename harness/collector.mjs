// How the garbage collector of workerd is set, by the local server and by the baselines that it is measured against.

/**
 * A new space of 1 MiB, where V8 would let it grow far beyond. What is to last lies in SQLite and in the memory of the
 * module; what JavaScript has is garbage after a call, and much of it belongs to the runtime, with a destructor each: in a large
 * new space it piles up until one collection has tens of thousands of them to destroy, while every tenant of the process waits.
 */
const FLAGS = "--max-semi-space-size=1";

/** Sets the flags that miniflare starts workerd with, unless whoever starts this process has set some. */
export function setCollector(environment) {
  environment.MINIFLARE_WORKERD_V8_FLAGS ??= FLAGS;
}
