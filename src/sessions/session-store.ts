/** A session in a store. */
export interface StoredSession<T> {
  readonly id: string
  readonly session: T
}

/** The sessions of one tenant, one object each, under ids that are unique within the tenant. */
export interface SessionStore<T> {
  /** Undefined when the tenant has none of this id. */
  get(id: string): Promise<T | undefined>
  /** Puts a session under an id, in place of the one that is there. */
  set(id: string, session: T): Promise<void>
  /** Stores a session under a new random id, and returns that. */
  create(session: T): Promise<string>
  /** Whether there was one. */
  delete(id: string): Promise<boolean>
  /** All sessions of the tenant, in no particular order. */
  list(): Promise<StoredSession<T>[]>
}
