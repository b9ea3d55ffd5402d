import { inspect } from 'node:util'

/** A value that no log shows by accident: only `reveal()` gives it. */
export class Secret {
  readonly #value: string

  /** @internal */
  constructor(value: string) {
    this.#value = value
  }

  /** The value. */
  reveal(): string {
    return this.#value
  }

  toString(): string {
    return '[secret]'
  }

  toJSON(): string {
    return '[secret]'
  }

  [inspect.custom](): string {
    return '[secret]'
  }
}
