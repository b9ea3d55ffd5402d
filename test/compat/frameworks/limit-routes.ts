import { EventEmitter, once } from 'node:events'
import { sql } from 'kysely'
import type { Rowhouse, TenantContext } from 'rowhouse'
import type { RequestQuota, RequestRateLimit } from 'rowhouse/http'

/** What limits the routes of every application, whatever it is written with. */
export const LIMITS = {
  /** `GET /limited` */
  limited: { name: 'limited', windows: [{ limit: 2, windowMs: 600_000 }], subject: 'key' },
  /** `GET /costly?cost=3`, a limit of two windows that the tenant's tier has, and a subject of the application's own. */
  costly: {
    name: 'costly',
    subject: (request) => request.headers.get('x-project') ?? '',
    cost: (request) => Number(new URL(request.url).searchParams.get('cost') ?? 1),
  },
  /** `GET /by-route/:name` */
  byRoute: { windows: [{ limit: 2, windowMs: 600_000 }], name: 'by-route', subject: 'route' },
} as const satisfies Record<string, RequestRateLimit>

export const QUOTAS = {
  /** `POST /metered?status=500&used=1` */
  metered: { units: { documents: 4 }, advertise: true },
  /** `POST /slow` */
  slow: { units: { documents: 3 } },
  /** `POST /paid` */
  paid: { units: () => ({ money: '6' }) },
} as const satisfies Record<string, RequestQuota>

/** What the handler of `POST /metered` does. */
export function meter(url: string, reportUsage: (units: { documents: number }) => void): number {
  const { searchParams } = new URL(url, 'http://localhost')
  const used = searchParams.get('used')
  if (used !== null) reportUsage({ documents: Number(used) })
  if (searchParams.get('status') === 'throw') throw new Error('password of the database')
  return Number(searchParams.get('status') ?? 200)
}

/** Keeps the handler of `POST /slow` at work: tells `entered`, and goes on with `open`. */
export class HandlerGate extends EventEmitter<{ entered: []; open: [] }> {
  async pass(): Promise<void> {
    const opened = once(this, 'open')
    this.emit('entered')
    await opened
  }
}

/** What the handler of `GET /sessions/:id` does. */
export const readSession = async (tenant: TenantContext, id: string) => (await tenant.sessions.messages(id)).messages

/** What the handler of `POST /idle` does: clients that are in a transaction while it runs, and do nothing. */
export async function countOpenTransactions(rowhouse: Rowhouse): Promise<{ open: number }> {
  const { rows } = await sql<{ open: number }>`select count(*)::int as open from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and state like 'idle in transaction%'`.execute(
    rowhouse.kysely('globex'),
  )
  return { open: rows[0]!.open }
}
