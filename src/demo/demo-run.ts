import type { Generated } from 'kysely'
import type pg from 'pg'
import type { EmbedFunction } from '../documents/embed.ts'
import type { Rowhouse } from '../rowhouse.ts'
import type { DEMO_TABLE, DemoDatabase } from './demo-database.ts'
import type { Presentation } from './presentation.ts'

/** What the steps of the demo share. */
export interface DemoRun {
  readonly show: Presentation
  readonly database: DemoDatabase
  /** The application's login, for what its migrations and its old code do. */
  readonly pool: pg.Pool
  readonly rowhouse: Rowhouse<DemoTables>
  readonly embed: EmbedFunction
}

/** A step prints what it does and checks what it claims; it throws when it can't go on. */
export type DemoStep = (run: DemoRun) => Promise<void>

/** The application's own table. */
export interface DemoTables {
  [DEMO_TABLE]: {
    tenant_id: Generated<string>
    id: Generated<string>
    author: string
    note: string
  }
}
