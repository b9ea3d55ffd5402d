import { createOutput, formatDuration } from '../cli/output.ts'
import { createRowhouse } from '../rowhouse.ts'
import { PUBLIC_PRESIDENTS } from './archives.ts'
import { cleanUp } from './clean-up.ts'
import { type DemoDatabase, openDemoDatabase, refuseLeftovers } from './demo-database.ts'
import type { DemoRun, DemoStep, DemoTables } from './demo-run.ts'
import { createHashingEmbedder } from './embed.ts'
import { loadPassages } from './passages.ts'
import { Presentation } from './presentation.ts'
import { attack } from './steps/attacks.ts'
import { verifyAudit } from './steps/audit.ts'
import { ingestDocuments, searchDocuments } from './steps/documents.ts'
import { eraseTenant } from './steps/erasure.ts'
import { install } from './steps/install.ts'
import { stopRunaway } from './steps/limits.ts'
import { protectOwnTable } from './steps/own-table.ts'
import { provisionTenants } from './steps/tenants.ts'
import { showUsage } from './steps/usage.ts'

export interface DemoOptions {
  /** A server to run on, as an ordinary login that may install rowhouse. Without it: an embedded Postgres. */
  readonly databaseUrl?: string
  /** Receives the demo line by line. Default: standard output, with colours on a terminal. */
  readonly output?: (line: string) => void
}

const STEPS: readonly DemoStep[] = [
  provisionTenants,
  ingestDocuments,
  searchDocuments,
  protectOwnTable,
  attack,
  stopRunaway,
  showUsage,
  eraseTenant,
  verifyAudit,
]

/**
 * Plays the whole story on real documents: three tenants, search, attacks that fail, a runaway agent that is stopped,
 * what it cost, erasure, audit. Every step checks what it
 * claims. On a server it removes what it added; rowhouse itself stays installed.
 *
 * @returns The exit code: 0 when every claim held, otherwise 1.
 */
export async function runDemo(options: DemoOptions = {}): Promise<number> {
  const begun = performance.now()
  const terminal = createOutput(process.stdout, process.stderr, process.env)
  const show = new Presentation({
    output: options.output ?? ((line) => terminal.line(line)),
    style: options.output === undefined ? terminal.style : (_style, text) => text,
  })
  show.title('rowhouse: three archives in one Postgres, kept apart by the database')

  let database: DemoDatabase | undefined
  try {
    const corpus = await loadPassages(PUBLIC_PRESIDENTS)
    const embed = createHashingEmbedder(corpus.map((passage) => passage.content))
    database = await openDemoDatabase(options.databaseUrl)
    await play({
      show,
      database,
      pool: database.pool,
      rowhouse: createRowhouse<DemoTables>({ pool: database.pool }),
      embed,
    })
  } catch (error) {
    show.failure('The demo could not go on', error)
  } finally {
    await database?.close()
  }

  const duration = formatDuration(performance.now() - begun)
  show.title('')
  show.title(
    show.failed === 0
      ? `All ${show.held} claims held, in ${duration}.`
      : `FAILED: ${show.held} claims held and ${show.failed} did not, after ${duration}.`,
  )
  return show.failed === 0 ? 0 : 1
}

async function play(run: DemoRun): Promise<void> {
  const { show, database } = run
  await install(run)
  await refuseLeftovers(database.pool)
  try {
    for (const step of STEPS) await step(run)
  } catch (error) {
    show.failure('The demo could not go on', error)
  }
  if (!database.embedded) await cleanUp(run)
}
