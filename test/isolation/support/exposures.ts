import type pg from 'pg'
import { findIsolationGaps } from '../../../src/testing/index.ts'

/** Gaps of the kinds that matter to a test, or all, each as a line: what, where, why. */
export async function exposures(client: pg.ClientBase, ...kinds: readonly string[]): Promise<string[]> {
  const gaps = await findIsolationGaps(client)
  return gaps
    .filter(({ kind }) => kinds.length === 0 || kinds.includes(kind))
    .map(({ kind, object, detail }) => `${kind}: ${object}: ${detail}`)
}
