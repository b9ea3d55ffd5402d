import { RowhouseError } from '../../errors.ts'
import type { DemoRun, DemoStep } from '../demo-run.ts'

/** What a call of the agent costs at most, and what it does. */
const CALL = { inputTokens: 1200, outputTokens: 300, money: '0.05' }
const BUDGET = 1
const CALLS_A_MINUTE = 10

/** An agent in a loop: stopped by a rate limit, then by a budget; the other tenants go on. */
export const stopRunaway: DemoStep = async (run) => {
  const { show, rowhouse, database } = run
  const { kennedy, lincoln } = database.tenantIds
  show.section('A runaway tenant')
  show.text(`An agent of ${kennedy} calls a model in a loop. The operator has given the tenant two limits:`)
  show.code(`rateLimits.set('${kennedy}', 'agent', [{ limit: ${CALLS_A_MINUTE}, windowMs: 60_000 }])`)
  show.code(`quotas.set('${kennedy}', 'money_per_month', { limit: ${BUDGET} })`)
  await rowhouse.rateLimits.set(kennedy, 'agent', [{ limit: CALLS_A_MINUTE, windowMs: 60_000 }])
  await rowhouse.quotas.set(kennedy, 'money_per_month', { limit: BUDGET })
  await rowhouse.quotas.set(kennedy, 'concurrency', { limit: 100 })

  const { rateLimiter, budget } = rowhouse.tenant(kennedy, { userId: 'agent' })
  const taken = await outcomes(25, () => rateLimiter.acquire('agent', { name: 'agent' }))
  show.claim(
    `Of 25 calls at once, ${CALLS_A_MINUTE} are let through, and each of the others is told when to try again`,
    taken,
    {
      done: CALLS_A_MINUTE,
      rate_limited: 25 - CALLS_A_MINUTE,
    },
  )

  show.text('Without the rate limit it spends until the budget is used up. Money is reserved before it is spent:')
  show.code(`budget.run({ units: { inputTokens: 1200, outputTokens: 300, money: '0.05' } }, callTheModel)`)
  const spent = await outcomes(40, () => budget.run({ units: CALL, rateLimit: null, kind: 'model_call' }, answer))
  const affordable = BUDGET / Number(CALL.money)
  show.claim(`Of 40 calls at once, the ${affordable} that the budget pays for are made`, spent, {
    done: affordable,
    budget_exceeded: 40 - affordable,
  })
  const money = (await budget.checkQuotas()).find(({ name }) => name === 'money_per_month')
  show.claim(
    'To the cent: nothing is overspent, and nothing stays reserved',
    [money?.used, money?.reserved, money?.free, money?.overrun],
    [BUDGET, 0, 0, 0],
  )
  await show.refused('One more call is refused, and costs nothing', 'budget_exceeded', () =>
    budget.run({ units: CALL, rateLimit: null }, answer),
  )
  const others = await outcomes(3, () =>
    rowhouse.tenant(lincoln).budget.run({ units: CALL, rateLimit: null, kind: 'model_call' }, answer),
  )
  show.claim(`Calls of ${lincoln} go on`, others, { done: 3 })
  await waitInTurn(run)
}

/** One slot for all: a tenant with many requests and one with a single request. */
async function waitInTurn({ show, rowhouse, database }: DemoRun): Promise<void> {
  const { kennedy, lincoln } = database.tenantIds
  const queue = `demo-${database.embedded ? 'gpu' : lincoln.slice(-6)}`
  show.text(`One slot of a queue, and ten requests of ${kennedy} before a single one of ${lincoln}:`)
  show.code(`queues.define('${queue}', { slots: 1 })`)
  await rowhouse.queues.define(queue, { slots: 1 })
  try {
    const order: string[] = []
    const ask = (tenant: string) =>
      rowhouse
        .tenant(tenant)
        .queue(queue)
        .run(() => void order.push(tenant), { deadlineMs: 15_000 })
    const held = await rowhouse.tenant(kennedy).queue(queue).acquire()
    const many = Array.from({ length: 10 }, () => ask(kennedy))
    await untilWaiting(rowhouse, queue, 10)
    const single = ask(lincoln)
    await untilWaiting(rowhouse, queue, 11)
    await held.release()
    await Promise.all([...many, single])
    show.claim(`${lincoln} is next in turn, not eleventh`, order.indexOf(lincoln), 0)
  } finally {
    await rowhouse.queues.drop(queue)
  }
}

async function untilWaiting(rowhouse: DemoRun['rowhouse'], queue: string, expected: number): Promise<void> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const [load] = await rowhouse.queues.utilization(queue)
    if (load?.waiting === expected) return
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/** What a model would answer, and how many tokens that took. */
async function answer(call: { report(units: typeof CALL): void }): Promise<string> {
  call.report(CALL)
  return 'answered'
}

/** How many of so many calls at once were done, or refused with which code. */
async function outcomes(calls: number, call: () => Promise<unknown>): Promise<Record<string, number>> {
  const counts: Record<string, number> = {}
  const ended = await Promise.allSettled(Array.from({ length: calls }, call))
  for (const outcome of ended) {
    const code = outcome.status === 'fulfilled' ? 'done' : codeOf(outcome.reason)
    counts[code] = (counts[code] ?? 0) + 1
  }
  return counts
}

function codeOf(error: unknown): string {
  if (error instanceof RowhouseError) return error.code
  throw error
}
