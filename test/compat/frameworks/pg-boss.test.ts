import { PgBoss } from 'pg-boss'
import { pgBoss, workWithPgBoss } from 'rowhouse/pg-boss'
import { useRowhouse } from '../../audit/support.ts'
import { useDatabase } from '../../setup/database.ts'
import { describeJobs } from './jobs-support.ts'

const database = useDatabase()
const fixture = useRowhouse(database)

async function open(connectionString: string): Promise<PgBoss> {
  const boss = new PgBoss({ connectionString, max: 4 })
  boss.on('error', () => {})
  await boss.start()
  return boss
}

describeJobs(database, fixture, {
  queue: pgBoss(),
  program: 'pg-boss-process.ts',
  prepare: async (connectionString) => {
    const boss = await open(connectionString)
    await boss.createQueue('rowhouse')
    await boss.stop({ graceful: false })
  },
  start: async (connectionString, jobs, { concurrency }) => {
    const boss = await open(connectionString)
    await workWithPgBoss(boss, jobs, { concurrency, pollingIntervalSeconds: 0.5 })
    return () => boss.stop({ graceful: true, timeout: 5000 })
  },
  written: async (owner) => {
    const { rows } = await owner.query("select j::text as row from pgboss.job j where name = 'rowhouse'")
    return JSON.stringify(rows)
  },
  forge: async (owner, payload) => {
    await owner.query("insert into pgboss.job (name, data) values ('rowhouse', $1)", [JSON.stringify(payload)])
  },
  pending: async (owner) => {
    const { rows } = await owner.query<{ count: number }>(
      "select count(*)::int as count from pgboss.job where name = 'rowhouse' and state < 'active'",
    )
    return rows[0]!.count
  },
})
