const SIZE = 1000

/** Remembers what is made for each key; above a thousand, what was made first is made again. */
export class BoundedMap<Value> {
  readonly #entries = new Map<string, Value>()

  getOrMake(key: string, make: () => Value): Value {
    let value = this.#entries.get(key)
    if (value === undefined) {
      value = make()
      if (this.#entries.size >= SIZE) this.#entries.delete(this.#entries.keys().next().value!)
      this.#entries.set(key, value)
    }
    return value
  }
}
