/**
 * What the tests know about the Postgres they run on. The engine is chosen once per run (engines/choose.ts); a test file
 * gets a database of its own on it (database.ts), and a test says what it needs of it (needs.ts).
 */

/** What not every engine can do. A test that needs one of them is skipped, with the reason, where it is missing. */
export interface Capabilities {
  /** Sessions are backends of their own: they block each other, have their own settings and locks. */
  readonly parallelBackends: boolean
  /** Logins are the roles they say, so the application's login is no superuser. */
  readonly realRoles: boolean
  /** The extension `vector` can be created. */
  readonly pgvector: boolean
  /** A superuser login is at hand. */
  readonly superuser: boolean
  /** A test file can have a whole server to itself. */
  readonly ownServer: boolean
}

export type EngineKind = 'url' | 'docker' | 'native' | 'embedded' | 'pglite'

/** The logins of the tests: see logins.ts for what each may do. */
export type Role = 'owner' | 'app' | 'operator' | 'superuser'

export interface Engine extends Capabilities {
  readonly kind: EngineKind
  /** For people, such as `PostgreSQL 15.20 (/usr/lib/postgresql/15/bin)`. */
  readonly name: string
  /** Such as `15.20`. */
  readonly version: string
  /** The running server; PGlite has none, each test file starts its own process. */
  readonly server?: { readonly urls: Urls }
  /** Folder of `initdb` and `postgres`, for files that want a server of their own. */
  readonly binDirectory?: string
}

/** Connection strings to one server's maintenance database. `superuser` is missing where nobody gave us one. */
export type Urls = Readonly<Record<Exclude<Role, 'superuser'>, string>> & { readonly superuser?: string }

/** An engine and how to end it. */
export interface StartedEngine {
  readonly engine: Engine
  stop(): Promise<void>
}

/** One run of the suite; its id is part of the name of every test database. */
export interface Run {
  readonly id: string
  /** Folder for files that the workers share; removed at the end. */
  readonly directory: string
}

declare module 'vitest' {
  interface ProvidedContext {
    /** In order of preference: a test file takes the first one that has what it needs. */
    engines: Engine[]
    run: Run
  }
}
