/**
 * For the test suite of an application: proves that its own tables keep tenants apart.
 *
 * Works in every test framework: nothing here registers tests or hooks, failures are thrown.
 *
 * - {@link findIsolationGaps} reads the catalogs: what could let one tenant reach another.
 * - {@link proveIsolation} tries it: two throw-away tenants, every verb, every protected table, then a rollback.
 * - {@link createTestTenant} and {@link withTestTenants} give tests tenants of their own, and erase them.
 *
 * @example
 * ```ts
 * import { findIsolationGaps, proveIsolation } from 'rowhouse/testing'
 *
 * // In a test of vitest, jest or node:test, on the migrated database of the suite.
 * const gaps = await findIsolationGaps(connectionString)
 * for (const gap of gaps) console.error(`${gap.object}: ${gap.detail}. ${gap.mend}`)
 * if (gaps.length > 0) throw new Error('tables are open')
 * await proveIsolation(connectionString)
 * ```
 *
 * @module
 */
export { type FindGapsOptions, findIsolationGaps } from './find-isolation-gaps.ts'
export type { RowValues } from './insert-row.ts'
export { IsolationError, type IsolationLeak } from './isolation-error.ts'
export type { IsolationGap } from './isolation-gap.ts'
export { type IsolationProof, type ProveIsolationOptions, proveIsolation } from './prove-isolation.ts'
export type { TestConnection } from './test-connection.ts'
export { createTestTenant, type TestTenant, type TestTenantOptions, withTestTenants } from './test-tenants.ts'
