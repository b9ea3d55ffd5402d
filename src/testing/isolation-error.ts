/** A row, or a trace of one, that a tenant got hold of although it belongs to another. */
export interface IsolationLeak {
  /** With its schema. */
  readonly table: string
  /** What the tenant did, for example `update where current of`. */
  readonly verb: string
  /** What it read or changed; all values are made up. */
  readonly evidence: readonly string[]
}

/**
 * Tenants are not kept apart. Every test framework shows the message, which names each table and verb.
 *
 * @example
 * ```ts
 * import { IsolationError, proveIsolation } from 'rowhouse/testing'
 *
 * await proveIsolation(connectionString).catch((error) => {
 *   if (error instanceof IsolationError) for (const leak of error.leaks) console.error(leak.table, leak.verb)
 *   throw error
 * })
 * ```
 */
export class IsolationError extends Error {
  readonly code = 'isolation_broken'
  readonly leaks: readonly IsolationLeak[]

  constructor(leaks: readonly IsolationLeak[]) {
    const lines = leaks.map(
      ({ table, verb, evidence }) => `  ${table}, ${verb}: ${evidence[0]?.slice(0, EVIDENCE_LENGTH)}`,
    )
    super(`A tenant reached rows of another one.\n${lines.slice(0, LINES).join('\n')}${more(leaks.length - LINES)}`)
    this.name = 'IsolationError'
    this.leaks = leaks
  }
}

const LINES = 20
const EVIDENCE_LENGTH = 200

const more = (count: number) => (count > 0 ? `\n  and ${count} more` : '')
