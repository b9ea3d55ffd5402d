import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'

const EVERY_MS = 5

/** Watches who waits for a lock, every few milliseconds, and tells the longest wait of each application, in milliseconds. */
export async function watchLocks(connectionString: string): Promise<{ stop(): Promise<Map<string, number>> }> {
  const client = new pg.Client({ connectionString, application_name: 'watches locks' })
  await client.connect()
  const longest = new Map<string, number>()
  let stopped = false
  const watching = (async () => {
    while (!stopped) {
      // Connections to other databases have locks of other tables.
      const { rows } = await client.query<{ application: string; ms: number }>(`
        select a.application_name as application, extract(epoch from max(clock_timestamp() - l.waitstart))::float8 * 1000 as ms
          from pg_locks l join pg_stat_activity a on a.pid = l.pid and a.datname = current_database()
          where not l.granted and l.waitstart is not null group by 1`)
      for (const { application, ms } of rows) longest.set(application, Math.max(ms, longest.get(application) ?? 0))
      await delay(EVERY_MS)
    }
  })()
  return {
    async stop() {
      stopped = true
      await watching
      await client.end()
      return longest
    },
  }
}
