/** Something in the catalogs by which one tenant can reach, or learn about, another. */
export interface IsolationGap {
  /** error: leaks between tenants. warning: leaks together with something else, or may after the next change. */
  readonly level: 'error' | 'warning'
  /** Stable name of the kind, for example `unprotected_table` or `key_without_tenant`. */
  readonly kind: string
  /** The protected or unprotected table, with its schema; null where it is none. */
  readonly table: string | null
  /** What the finding is about: the table, a partition, a key, a view, a function, a role. */
  readonly object: string
  readonly detail: string
  /** The statement that mends it, or a proposal. */
  readonly mend: string
}
