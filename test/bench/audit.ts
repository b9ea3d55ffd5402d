import { setTimeout as delay } from 'node:timers/promises'
import { type AuditEntryInput, createRowhouse, type Rowhouse } from '../../src/index.ts'
import type { BenchContext } from './run.ts'

const TENANT = 'acme'
const CONNECTIONS = 16

/** What appending, sealing and verifying an audit trail cost. `npm run bench -- audit 100000` for a smaller trail. */
export default async function benchAudit({ urls, args }: BenchContext): Promise<void> {
  const total = Number(args[0] ?? 1_000_000)
  const rowhouse = createRowhouse({
    connectionString: urls.app!,
    poolOptions: { max: CONNECTIONS },
    admin: { connectionString: urls.operator! },
  })
  try {
    await rowhouse.tenants.provision(TENANT)
    const single = await appendOneByOne(rowhouse, 5000)
    report(`append, ${CONNECTIONS} callers, each entry a transaction`, `${single.toFixed(0)} entries/s`)
    const buffered = await appendBuffered(rowhouse, Math.min(100_000, total / 5))
    report('append, buffered', `${buffered.toFixed(0)} entries/s`, buffered >= 5000, 'at least 5000')
    const bulk = await appendInBulk(rowhouse, total)
    report('append, 1000 at once, 2 callers', `${bulk.toFixed(0)} entries/s`)

    const [sealed, sealSeconds] = await timed(() => rowhouse.auditLog.seal(TENANT))
    report(`seal ${sealed.sealed} entries`, `${sealSeconds.toFixed(2)} s`)
    const [verified, verifySeconds] = await timed(() => rowhouse.auditLog.verify(TENANT))
    if (!verified.intact) throw new Error(`the trail is not intact: ${JSON.stringify(verified.findings)}`)
    report(
      `verify ${verified.entries} entries`,
      `${verifySeconds.toFixed(2)} s`,
      (verifySeconds * 1_000_000) / verified.entries < 10,
      'less than 10 s for 1 000 000',
    )
  } finally {
    await rowhouse.close()
  }
}

async function appendOneByOne(rowhouse: Rowhouse, milliseconds: number): Promise<number> {
  const { audit } = rowhouse.tenant(TENANT)
  await audit.append(entry(0))
  let count = 0
  let appending = true
  const [, seconds] = await timed(async () => {
    const callers = Array.from({ length: CONNECTIONS }, async () => {
      while (appending) {
        await audit.append(entry(count))
        count++
      }
    })
    await delay(milliseconds)
    appending = false
    await Promise.all(callers)
  })
  return count / seconds
}

async function appendBuffered(rowhouse: Rowhouse, count: number): Promise<number> {
  const { audit } = rowhouse.tenant(TENANT)
  const [, seconds] = await timed(async () => {
    for (let index = 0; index < count; index++) await audit.append(entry(index), { buffered: true })
    await rowhouse.auditLog.flush()
  })
  return count / seconds
}

/** Until there are so many entries. */
async function appendInBulk(rowhouse: Rowhouse, total: number): Promise<number> {
  const { audit } = rowhouse.tenant(TENANT)
  const { unsealed } = await rowhouse.auditLog.verify(TENANT)
  let left = Math.max(1000, total - unsealed)
  const appended = left
  const [, seconds] = await timed(() =>
    Promise.all(
      Array.from({ length: 2 }, async () => {
        while (left > 0) {
          const size = Math.min(1000, left)
          left -= size
          await audit.append(Array.from({ length: size }, (_, index) => entry(index)))
        }
      }),
    ),
  )
  return appended / seconds
}

function entry(index: number): AuditEntryInput {
  return {
    action: 'chat.respond',
    userId: `u_${index % 100}`,
    requestId: `r_${index}`,
    model: 'small-1',
    inputTokens: 800 + (index % 100),
    outputTokens: 90,
    cost: '0.00124',
    documents: ['handbook/leave', 'handbook/travel'],
    latencyMs: 640,
    detail: { prompt: `Question ${index}`, finish: 'stop' },
  }
}

async function timed<T>(work: () => Promise<T>): Promise<[T, number]> {
  const begun = performance.now()
  const result = await work()
  return [result, (performance.now() - begun) / 1000]
}

function report(what: string, measured: string, met = true, target = ''): void {
  console.log(`${what.padEnd(48)}${measured.padStart(20)}   ${target}${met ? '' : '  MISSED'}`)
}
