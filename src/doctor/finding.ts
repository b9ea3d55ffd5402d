/** error: leaks between tenants. warning: leaks together with something else, or may later. info: good to know. */
export type FindingLevel = 'error' | 'warning' | 'info'

/** Something that a lint of `rowhouse.doctor()` found. */
export interface Finding {
  /** Stable name of the lint, for example `unprotected_table`: the name of its file in `sql/doctor`. */
  readonly name: string
  readonly level: FindingLevel
  /** What is wrong, for every finding of this lint alike. */
  readonly title: string
  /** The table that is concerned, with its schema; null where it is none. */
  readonly table: string | null
  /** What the finding is about: a table, a partition, a key, a view, a function, a role. */
  readonly object: string
  readonly detail: string
  /** The statement that mends it, or a proposal. */
  readonly mend: string
  /** What it leads to. */
  readonly ramification: string
  /** How findings of this lint are mended. */
  readonly resolution: string
  /** The same in every run: lint and object. What is known and accepted is left out by it. */
  readonly cacheKey: string
}
