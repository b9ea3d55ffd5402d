/** Numbers of rows by table, schema-qualified. */
export type RowsByTable = Readonly<Record<string, number>>

/** What an erasure would delete. */
export interface ErasurePreview {
  readonly tenantId: string
  readonly dryRun: true
  readonly tables: RowsByTable
  /** Rows of all tables. */
  readonly rows: number
  /** Why an erasure would be refused now, each with what to do about it. Empty when it would not. */
  readonly obstacles: readonly ErasureObstacle[]
}

/** Something that keeps a tenant from being erased completely. */
export interface ErasureObstacle {
  readonly message: string
  readonly hint: string | null
}

/** The evidence of an erasure, as the database wrote and stored it. */
export interface ErasureReceipt {
  readonly tenantId: string
  /** Position in the chain of receipts, from 1. */
  readonly erasureNumber: number
  /** ISO 8601, by the clock of the database. */
  readonly startedAt: string
  /** ISO 8601, by the clock of the database. */
  readonly erasedAt: string
  /** The login that erased. */
  readonly erasedBy: string
  /** Rows erased from each registered table. */
  readonly tables: RowsByTable
  /** Rows of all tables. */
  readonly rows: number
  /** Partitions of a promoted tenant that were dropped. */
  readonly partitionsDropped: number
  /** The audit trail of the tenant: its entries are erased, its chain stays and can be verified. */
  readonly audit: {
    /** Segments of the chain; the last one says that the entries were erased. */
    readonly segments: number
    /** Entries that the trail had, with those that retention had removed before. */
    readonly entries: number
    /** The end of the chain, in hexadecimal. */
    readonly digest: string
  }
  /** What was looked for afterwards, in the same transaction. */
  readonly residue: {
    /** Always 0: an erasure that leaves a row is rolled back. */
    readonly rows: number
    readonly registeredTablesChecked: number
    /** Tables with a tenant column that are not registered and hold nothing of the tenant. */
    readonly otherTablesChecked: number
  }
  /** Tables with a tenant column that an operator exempted, with the reasons. */
  readonly exemptTables: Readonly<Record<string, string>>
  /** SHA-256 over the digest of the receipt before it and this receipt, in hexadecimal. */
  readonly auditDigest: string
}

/** The outcome of checking one receipt of the chain. */
export interface VerifiedErasure {
  /** Null for an erased tenant whose receipt is missing. */
  readonly erasureNumber: number | null
  readonly tenantId: string
  /** The database that holds the receipt, where there are `placements`; each has a chain of its own. */
  readonly placement?: string
  /** False when the receipt was changed, or it or one before it is missing. */
  readonly intact: boolean
}
