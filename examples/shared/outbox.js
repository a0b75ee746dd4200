// What was sent and is not known to be stored. It outlives a reload of the tab, and is then sent again under the same key, so that
// nothing is lost and nothing is there twice. Keys of messages are known for ten minutes.

export class Outbox {
  #name;
  #items;

  constructor(name) {
    this.#name = `outbox:${name}`;
    this.#items = JSON.parse(sessionStorage.getItem(this.#name) ?? "[]");
  }

  get items() {
    return [...this.#items];
  }

  /** Keeps an item until it is stored, and gives it with a key of its own. */
  add(item) {
    const kept = { key: crypto.randomUUID(), ...item };
    this.#keep([...this.#items, kept]);
    return kept;
  }

  remove({ key }) {
    this.#keep(this.#items.filter((item) => item.key !== key));
  }

  #keep(items) {
    this.#items = items;
    sessionStorage.setItem(this.#name, JSON.stringify(items));
  }
}
