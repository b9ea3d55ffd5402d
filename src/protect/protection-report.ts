/** One statement of a protection. */
export interface ProtectionStep {
  readonly step: number
  readonly statement: string
  /** Why it runs. */
  readonly purpose: string
  /** False: it can't run inside a transaction (`create index concurrently`). */
  readonly transactional: boolean
  /** Whether it ran. */
  readonly done: boolean
}

/** Something that protection can't make safe. */
export interface ProtectionFinding {
  /** error: leaks between tenants. warning: may leak. info: tells volume. */
  readonly level: 'error' | 'warning' | 'info'
  /** Stable name of the kind, for example `key_without_tenant`. */
  readonly kind: string
  readonly object: string
  readonly detail: string
  /** The statement that mends it. */
  readonly mend: string
}

/** What protecting a table did, or would do. */
export interface ProtectionReport {
  /** Schema-qualified. */
  readonly table: string
  readonly column: string
  readonly dryRun: boolean
  /** Empty when the table was protected already. */
  readonly steps: readonly ProtectionStep[]
  readonly findings: readonly ProtectionFinding[]
}

/** A table of the registry. */
export interface ProtectedTable {
  /** Schema-qualified. */
  readonly table: string
  readonly column: string
  /** Type of the column, for example `text`. */
  readonly columnType: string
  /** partitioned: by tenant, by rowhouse. plain: as its owner made it. */
  readonly layout: 'plain' | 'partitioned'
  readonly protectedAt: Date
}
