import * as z from 'zod'
import type { WorkListener } from '../context/progress.ts'

/** How far an erasure is. */
export interface ErasureProgress {
  /** The table that is emptied now. */
  readonly table: string
  /** Rows that were deleted so far. */
  readonly rows: number
  /** Rows that there were when it began. */
  readonly totalRows: number
}

export interface EraseOptions {
  readonly dryRun?: false | undefined
  /** Told while the erasure goes on. */
  readonly onProgress?: ((progress: ErasureProgress) => void) | undefined
}

export const eraseOptions = z.strictObject({
  dryRun: z.boolean().optional(),
  onProgress: z
    .custom<(progress: ErasureProgress) => void>((value) => typeof value === 'function', 'is not a function')
    .optional(),
})

/** Adds up what the database tells of each table. */
export function rowsErased(totalRows: number, onProgress: (progress: ErasureProgress) => void): WorkListener {
  const rowsOf = new Map<string, number>()
  let rows = 0
  return ({ work, object, done }) => {
    if (work !== 'erase') return
    // A table is looked at again, for what triggers wrote.
    const known = rowsOf.get(object) ?? 0
    rowsOf.set(object, Math.max(known, done))
    rows += Math.max(done - known, 0)
    onProgress({ table: object, rows, totalRows })
  }
}
