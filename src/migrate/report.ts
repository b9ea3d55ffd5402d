/**
 * What a migration run says about itself.
 *
 * - migration: a numbered file of `sql/migrations`, applied once and never changed afterwards.
 * - functions file: a file of `sql/functions`, applied again whenever one of them changed.
 * - bootstrap: `sql/bootstrap.sql`, the roles, the schema and the tables that remember what was applied.
 */

export type SqlFileKind = 'bootstrap' | 'migration' | 'functions'

/** applied: as in the package. pending: not yet in the database. changed: in the database with another content. */
export type SqlFileState = 'applied' | 'pending' | 'changed'

/** One SQL file of the package and what this database has of it. */
export interface SqlFileStatus {
  /** Path below the folder `sql`, for example `migrations/1_tenants.sql`. */
  readonly file: string
  readonly kind: SqlFileKind
  readonly state: SqlFileState
  /** ISO 8601 time of the application, null while pending. */
  readonly appliedAt: string | null
}

/** What {@link migrationStatus} found. Nothing was written. */
export interface MigrationStatus {
  readonly database: string
  readonly serverVersion: string
  /** Version of this package. */
  readonly packageVersion: string
  /** Version of the package that last migrated the database; null when it never was. */
  readonly installedVersion: string | null
  /** Whether migrate would do nothing. */
  readonly upToDate: boolean
  /** Every file of the package, in the order in which they are applied. */
  readonly files: readonly SqlFileStatus[]
  /** Steps besides files: roles to create, memberships and privileges to grant. One sentence each. */
  readonly preparations: readonly string[]
  /** What an operator should know, for example that the server misses security fixes. */
  readonly warnings: readonly string[]
}

/** What {@link migrate} did, or would do in a dry run. */
export interface MigrationReport {
  readonly database: string
  readonly serverVersion: string
  /** Version of this package, and of the database from now on. */
  readonly version: string
  readonly dryRun: boolean
  /** Files that were applied (dry run: that would be), in this order. Empty when there was nothing to do. */
  readonly applied: readonly AppliedFile[]
  /** Roles created, memberships and privileges granted. One sentence each. */
  readonly preparations: readonly string[]
  readonly warnings: readonly string[]
  readonly durationMs: number
}

export interface AppliedFile {
  /** Path below the folder `sql`. */
  readonly file: string
  readonly kind: SqlFileKind
  /** The SQL of the file. */
  readonly sql: string
}

export type MigrationStep = 'connect' | 'check' | 'lock' | 'bootstrap' | 'migration' | 'functions'

/** One step begins or ended. */
export interface MigrationProgress {
  readonly step: MigrationStep
  readonly state: 'started' | 'finished'
  /** The file, where the step is one. */
  readonly file?: string
  /** How long the step took; 0 when it begins. */
  readonly durationMs: number
}

export type ProgressListener = (progress: MigrationProgress) => void
