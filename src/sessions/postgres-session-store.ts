import type { Metadata } from '../documents/document-types.ts'
import type { SessionStore, StoredSession } from './session-store.ts'
import type { Sessions } from './sessions.ts'

/** The sessions of a tenant as a {@link SessionStore}: what is stored is their metadata, up to 65,536 bytes of JSON. */
export class PostgresSessionStore<T extends object> implements SessionStore<T> {
  readonly #sessions: Sessions

  /** @internal */
  constructor(sessions: Sessions) {
    this.#sessions = sessions
  }

  async get(id: string): Promise<T | undefined> {
    const session = await this.#sessions.find(id)
    return session?.metadata as T | undefined
  }

  /** An id that the tenant doesn't have becomes the external id of a new session. */
  async set(id: string, session: T): Promise<void> {
    const { id: sessionId } = await this.#sessions.open(id)
    await this.#sessions.update(sessionId, { metadata: session as Metadata })
  }

  async create(session: T): Promise<string> {
    return (await this.#sessions.create({ metadata: session as Metadata })).id
  }

  async delete(id: string): Promise<boolean> {
    const session = await this.#sessions.find(id)
    return session !== undefined && this.#sessions.delete(session.id)
  }

  async list(): Promise<StoredSession<T>[]> {
    const found: StoredSession<T>[] = []
    let cursor: string | undefined
    do {
      const page = await this.#sessions.list({ limit: 1000, cursor })
      found.push(
        ...page.sessions.map(({ id, externalId, metadata }) => ({ id: externalId ?? id, session: metadata as T })),
      )
      cursor = page.nextCursor
    } while (cursor !== undefined)
    return found
  }
}
