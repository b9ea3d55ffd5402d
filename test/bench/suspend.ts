import { setTimeout as delay } from 'node:timers/promises'
import { withClient } from '../setup/connection.ts'
import { SuspendedProcesses } from '../tenants/suspended-processes.ts'
import type { BenchContext } from './run.ts'

const TENANT = 'acme'
const PROCESSES = 4
const CONNECTIONS = 4
const TARGET_MS = 100
const clock = 'select extract(epoch from clock_timestamp())::float8 * 1000 as now'

/**
 * How long statements of a tenant are still accepted when it is suspended, while four processes run them as fast as they
 * can. All times are those of the server's clock. `npm run bench -- suspend 50` for 50 rounds.
 */
export default async function benchSuspend({ urls, args }: BenchContext): Promise<void> {
  const rounds = Number(args[0] ?? 20)
  const measured: { afterCall: number; afterReturn: number; took: number; accepted: number; refused: number }[] = []
  await withClient(urls.owner!, async (owner) => {
    await owner.query(`create table notes (tenant_id text not null, v int);
      select rowhouse.protect_table('notes'); select rowhouse.provision_tenant('${TENANT}')`)
    const now = async () => (await owner.query<{ now: number }>(clock)).rows[0]!.now
    const running = new SuspendedProcesses({
      url: urls.app!,
      tenantId: TENANT,
      processes: PROCESSES,
      connections: CONNECTIONS,
      mode: 'checked',
    })
    try {
      for (let round = 0; round < rounds; round++) {
        await running.until('accepted')
        await delay(100)
        await running.report()
        const called = await now()
        await owner.query('select rowhouse.suspend_tenant($1)', [TENANT])
        const returned = await now()
        const seen = await running.until('refused')
        const errors = seen.flatMap((each) => each.errors)
        if (errors.length > 0) throw new Error(errors[0])
        const last = Math.max(...seen.map(({ lastStatement }) => lastStatement))
        const late = (await running.until('refused')).reduce((sum, { accepted }) => sum + accepted, 0)
        if (late > 0) throw new Error(`${late} statements were accepted long after the suspension`)
        measured.push({
          afterCall: last - called,
          afterReturn: last - returned,
          took: returned - called,
          accepted: seen.reduce((sum, { accepted }) => sum + accepted, 0),
          refused: seen.reduce((sum, { refused }) => sum + refused, 0),
        })
        await owner.query('select rowhouse.resume_tenant($1)', [TENANT])
      }
    } finally {
      await running.stop()
    }
  })
  const worst = (name: keyof (typeof measured)[number]) => Math.max(...measured.map((each) => each[name]))
  const sum = (name: keyof (typeof measured)[number]) => measured.reduce((total, each) => total + each[name], 0)
  const report = (what: string, ms: number, target = '') =>
    console.log(`${what.padEnd(64)}${ms.toFixed(1).padStart(8)} ms   ${target}`)
  console.log(`${rounds} suspensions, ${PROCESSES} processes with ${CONNECTIONS} connections each`)
  console.log(`${sum('accepted')} statements accepted and ${sum('refused')} calls refused from the suspensions on\n`)
  report('worst: the suspension itself', worst('took'))
  const missed = worst('afterCall') > TARGET_MS
  report(
    'worst: from its call to the beginning of the last statement',
    worst('afterCall'),
    `at most ${TARGET_MS}${missed ? '  MISSED' : ''}`,
  )
  report('worst: from its return to the beginning of the last statement', worst('afterReturn'))
  if (missed) process.exitCode = 1
}
