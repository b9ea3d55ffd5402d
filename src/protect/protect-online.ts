import type pg from 'pg'
import type { ProtectionReport, ProtectionStep } from './protection-report.ts'

export interface ProtectionTarget {
  /** Quoted. */
  readonly table: string
  readonly column: string
  readonly existingRows: string | null
  readonly partition: boolean
}

/** How long a statement may wait for its lock, with the queries of everybody else waiting behind it. */
const LOCK_TIMEOUT_MS = 2000
const ATTEMPTS = 10

const LOCK_NOT_AVAILABLE = '55P03'

/**
 * Runs the plan one statement after another, each in a transaction of its own, so that no lock is held for longer than
 * its statement. What is left after an interruption is planned again by the next call.
 */
export async function protectOnline(
  client: pg.ClientBase,
  { table, column, existingRows, partition }: ProtectionTarget,
  onProgress: (step: ProtectionStep) => void = () => {},
): Promise<ProtectionReport> {
  const steps: ProtectionStep[] = []
  await client.query(`set lock_timeout = ${LOCK_TIMEOUT_MS}`)
  try {
    for (;;) {
      // Each statement may change what is left to do: partitioning, for one, replaces the table.
      const plan = await client.query<Omit<ProtectionStep, 'done'>>(
        'select * from rowhouse.protection_plan($1, $2, $3, $4) order by step limit 1',
        [table, column, existingRows, partition],
      )
      const [next] = plan.rows
      if (next === undefined) break
      await runWhenFree(client, next.statement)
      const step = { ...next, step: steps.length + 1, done: true }
      steps.push(step)
      onProgress(step)
    }
  } finally {
    await client.query('reset lock_timeout')
  }
  const { rows } = await client.query<{ report: ProtectionReport }>(
    'select rowhouse.protect_table($1, $2, $3, $4, true) as report',
    [table, column, existingRows, partition],
  )
  return { ...rows[0]!.report, dryRun: false, steps }
}

/** Tries again while the lock can't be had; the waiting in between lets other queries through. */
async function runWhenFree(client: pg.ClientBase, statement: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await client.query(statement)
      return
    } catch (error) {
      if ((error as { code?: string }).code !== LOCK_NOT_AVAILABLE || attempt === ATTEMPTS) throw error
      await new Promise((resolve) => setTimeout(resolve, 250 * attempt))
    }
  }
}
