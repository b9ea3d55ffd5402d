import { randomUUID } from 'node:crypto'
import { type Kysely, type RawBuilder, sql } from 'kysely'
import { evenIfSuspended } from '../context/even-if-suspended.ts'
import { withRetry } from '../context/retry.ts'
import type { TenantExecutor } from '../context/tenant-executor.ts'
import { createRowhouseError } from '../errors.ts'
import type {
  Admission,
  AdmitRequest,
  CircuitStatus,
  CrossedSoftLimit,
  GivenBack,
  QuotaStatus,
  Settlement,
  SettleOptions,
} from './budget-types.ts'
import { detailsToJson, parseCallId, parseCircuit, parseName, parsePart } from './call-arguments.ts'
import { callAlone } from './call-lane.ts'
import { type DenialRow, denialError } from './denial.ts'
import { toQuotaStatus } from './quota-status.ts'
import { type BudgetCallback, DEFAULT_LEASE_MS, type RunRequest, runInBudget } from './run-in-budget.ts'
import { callTogether, toMembers } from './shared-calls.ts'
import { type Units, unitsToJson } from './units.ts'

/**
 * What a tenant may spend: quotas of tokens, requests or anything else, budgets of money, and calls at the same time.
 *
 * Money is reserved before it is spent. `admit` reserves the most that a call can use, of every quota at once, or refuses
 * it and books nothing; `settle` books what it did use and gives the rest back. Decisions are made by the database, on
 * its clock, one after another for each tenant, so nothing is overspent by calls that race; a caller that dies leaves a
 * lease that runs out. {@link run} does all of it around a function.
 *
 * Outside of `withTenant`, calls that come at the same time share a transaction, each in the name of its own user and
 * request: those of one tenant, and admissions and settlements of several. Each gets its own answer or error, and no
 * tenant waits for what another one holds.
 *
 * Errors of all calls: `RowhouseError` of the codes `invalid_amount`, `unknown_quota` (a metric that no quota counts),
 * `unknown_price` (a model or unit without a price), `invalid_argument`, and those of the tenant.
 *
 * @example
 * ```ts
 * const { budget } = rowhouse.tenant('acme')
 * const answer = await budget.run(
 *   { model: 'large', units: { inputTokens: 1200, outputTokens: 800 } },
 *   async (call) => {
 *     const { text, usage } = await complete('Summarize this.', { signal: call.signal })
 *     call.report({ inputTokens: usage.input, outputTokens: usage.output })
 *     return text
 *   },
 * )
 * ```
 */
export class Budget {
  readonly #executor: TenantExecutor
  readonly #isInTransaction: () => boolean
  readonly #settlingDb: (() => Kysely<any>) | undefined

  /** @internal */
  constructor(
    executor: TenantExecutor,
    isInTransaction: () => boolean,
    settlingDb: (() => Kysely<any>) | undefined = undefined,
  ) {
    this.#executor = executor
    this.#isInTransaction = isInTransaction
    this.#settlingDb = settlingDb
  }

  /**
   * Admits a call, runs `fn`, and settles what it reported; no connection is in use meanwhile. The lease is extended
   * while `fn` runs; `signal` of the call aborts when it could not be.
   *
   * What `fn` reported is settled, also when it fails. If it fails without having reported anything, all is given back;
   * if it ends without, the reserved worst case is settled: nothing is free by accident. Nor is a call whose settlement
   * is refused, for a unit without a price or details that are none: its worst case is booked without them, and then the
   * refusal is thrown.
   *
   * Errors besides those of {@link admit}: what `fn` throws; `invalid_argument` inside `withTenant`, whose transaction
   * would stay open. When the settlement can't be written for a while it is tried again; then its error is thrown. If
   * `fn` failed as well it is an `AggregateError` of both.
   *
   * @example
   * ```ts
   * await acme.budget.run({ units: { toolCalls: 1, money: '0.05' } }, () => fetch('https://example.com/search'))
   * ```
   */
  async run<T>(request: RunRequest, fn: BudgetCallback<T>): Promise<T> {
    if (this.#isInTransaction()) {
      throw createRowhouseError('invalid_argument', 'run inside withTenant would keep its transaction open.', {
        hint: 'Call rowhouse.tenant(id).budget.run outside of withTenant, or admit and settle.',
      })
    }
    return runInBudget(this, { ...request, requestId: request.requestId ?? randomUUID() }, fn)
  }

  /**
   * Reserves the most that a call can use. Inside `withTenant` it joins the transaction: others of the tenant wait for
   * it, and a rollback gives everything back. A refusal is in the audit trail of the tenant, at most one a minute for each
   * quota, circuit or model; when its error leaves `withTenant`, it is rolled back with the transaction.
   *
   * SQL: `select rowhouse.admit('req-1', '{"input_tokens": 1200}', 'large', 60000, 'requests', '')`; beside calls of other
   * tenants `select rowhouse.call_for_tenant(c.value) from jsonb_array_elements('[...]') c`
   *
   * Errors: {@link QuotaExceededError}, {@link BudgetExceededError}, {@link RateLimitedError}, {@link CircuitOpenError},
   * and `RowhouseError` of the codes `model_not_allowed`, `request_id_used`.
   *
   * @example
   * ```ts
   * const { requestId } = await acme.budget.admit({ model: 'large', units: { inputTokens: 1200, outputTokens: 800 } })
   * ```
   */
  async admit(request: AdmitRequest = {}): Promise<Admission> {
    const { requestId = randomUUID(), model = null, units = {}, leaseMs = DEFAULT_LEASE_MS } = request
    const { rateLimit = 'requests', subject = '', circuit = '' } = request
    parseCallId(requestId)
    parseName(model, 'The model')
    parseName(rateLimit, 'The name of the rate limit')
    parseName(subject, 'The subject of the rate limit')
    parseCircuit(circuit)
    parseLease(leaseMs)
    const json = unitsToJson(units)
    const answer = await this.#call(
      sql<AdmissionRow | (DenialRow & { admitted: false })>`
      rowhouse.admit(${requestId}, ${json}::jsonb, ${model}, ${leaseMs}, ${rateLimit}, ${subject}, ${circuit})`,
      toMembers({ function: 'admit', requestId, model, leaseMs, rateLimit, subject, circuit }, { units: json }),
    )
    if (!answer.admitted) throw denialError(answer)
    const { cost, currency, duplicate } = answer
    return { requestId, expiresAt: new Date(answer.expiresAt), cost, currency, duplicate }
  }

  /**
   * Books what an admitted call used, and gives back what it had reserved besides. Repeating it changes nothing. A call
   * whose lease ran out, or that was released, is booked all the same: it did spend the money. So is one whose tenant was
   * suspended meanwhile. With `audit` it writes an entry of the audit trail, too.
   *
   * SQL: `select rowhouse.settle('req-1', '{"input_tokens": 1100}', '', '{"provider": "..."}')`; beside calls of other
   * tenants as {@link admit}
   *
   * Errors: `unknown_request` (never admitted), `request_settled` (a part after the end), `invalid_audit_entry`.
   *
   * @example
   * ```ts
   * await acme.budget.settle(requestId, { inputTokens: 400 }, { part: 'step 1' })   // a long agent, which goes on
   * const { cost } = await acme.budget.settle(
   *   requestId,
   *   { inputTokens: 700, outputTokens: 90 },
   *   { latencyMs: 810, audit: { action: 'chat.respond', documents: ['handbook'] } },
   * )
   * ```
   */
  async settle(requestId: string, units: Units, options: SettleOptions = {}): Promise<Settlement> {
    const { part = '', ...details } = options
    parseCallId(requestId)
    parsePart(part)
    const json = { units: unitsToJson(units), details: detailsToJson(details) }
    const { cost, currency, duplicate, crossed } = await this.#callEvenIfSuspended(
      sql<Settlement>`rowhouse.settle(${requestId}, ${json.units}::jsonb, ${part}, ${json.details}::jsonb)`,
      toMembers({ function: 'settle', requestId, part }, json),
    )
    return { requestId, cost, currency, duplicate, crossed }
  }

  /**
   * Gives back all that a call reserved, because it used nothing. False when it holds nothing any more. With `failed` it
   * counts against its circuit.
   *
   * SQL: `select rowhouse.release('req-1', false)`
   *
   * Errors: `unknown_request`, `request_settled`.
   */
  async release(requestId: string, { failed = false }: { readonly failed?: boolean } = {}): Promise<boolean> {
    return this.#callEvenIfSuspended(sql<boolean>`rowhouse.release(${parseCallId(requestId)}, ${failed})`)
  }

  /**
   * Lets a reservation live for `leaseMs` from now on, and says until when.
   *
   * SQL: `select rowhouse.extend_lease('req-1', 60000)`
   *
   * Errors: `reservation_expired`, after which the call should stop; `unknown_request`, `request_settled`.
   */
  async extend(requestId: string, leaseMs: number = DEFAULT_LEASE_MS): Promise<Date> {
    return this.#call(sql<Date>`rowhouse.extend_lease(${parseCallId(requestId)}, ${parseLease(leaseMs)})`)
  }

  /**
   * Gives back what went away: seats, stored bytes, documents, whatever a quota of the period `total` counts; never more
   * than was used, and never money or tokens. Repeating it with its event id changes nothing; the id may be the one with
   * which it was used.
   *
   * SQL: `select rowhouse.give_back('seat-ann', '{"seats": 1}')`
   *
   * Errors: `invalid_amount` for what can't be given back.
   *
   * @example
   * ```ts
   * await acme.budget.run({ requestId: 'seat-ann', units: { seats: 1 } }, () => work(db))
   * await acme.budget.giveBack('seat-ann', { seats: 1 })
   * ```
   */
  async giveBack(eventId: string, units: Units): Promise<GivenBack> {
    return this.#call(sql<GivenBack>`
      rowhouse.give_back(${parseCallId(eventId, 'The event id')}, ${unitsToJson(units)}::jsonb)`)
  }

  /**
   * Every quota and budget that holds for the tenant: where its limit comes from, what is used, reserved and free. Also of
   * a suspended tenant.
   *
   * SQL: `select * from rowhouse.quota_status()`
   *
   * @example
   * ```ts
   * const quotas = await acme.budget.checkQuotas()
   * const money = quotas.find(({ name }) => name === 'money_per_month')
   * ```
   */
  async checkQuotas(): Promise<QuotaStatus[]> {
    const status = sql<Record<string, unknown>>`select * from rowhouse.quota_status()`
    const { rows } = await evenIfSuspended(this.#executor.db, this.#settlingDb, (db) => status.execute(db))
    return rows.map(toQuotaStatus)
  }

  /**
   * When soft limits were used up, newest first; of the last 400 days. The settlement that did it tells it, too, as
   * `crossed`.
   *
   * SQL: `select ... from rowhouse.quota_events where tenant_id = 'acme'`
   *
   * @example
   * ```ts
   * for (const { name, used, softLimit } of await acme.budget.softLimits()) console.log(`${name}: ${used} of ${softLimit}`)
   * ```
   */
  async softLimits(): Promise<CrossedSoftLimit[]> {
    const { rows } = await sql<CrossedSoftLimit>`
      select e.name, e.period_start as "periodStart", e.used::float8 as used, e.soft_limit::float8 as "softLimit",
          e.crossed_at as "crossedAt"
        from rowhouse.quota_events e where e.tenant_id = ${this.#executor.tenantId} order by e.crossed_at desc, e.name
    `.execute(this.#executor.db)
    return rows
  }

  /**
   * The circuits of the tenant that are open, or count something.
   *
   * SQL: `select ... from rowhouse.circuits where tenant_id = 'acme'`
   */
  async circuits(): Promise<CircuitStatus[]> {
    const { rows } = await sql<CircuitStatus>`
      select c.circuit, c.status, c.reason, c.retry_at as "retryAt", c.calls, c.errors, c.spent::float8 as spent
        from rowhouse.circuits c where c.tenant_id = ${this.#executor.tenantId} order by c.circuit
    `.execute(this.#executor.db)
    return rows.map((row) => ({ ...row, reason: row.reason ?? undefined, retryAt: row.retryAt ?? undefined }))
  }

  /**
   * Inside `withTenant` a call is part of its transaction; outside it may share one with others, and is made again when the database ended it for another one (deadlock): it did nothing then.
   */
  async #call<T>(call: RawBuilder<T>, shared?: string): Promise<T> {
    if (this.#isInTransaction()) return callAlone(this.#executor.calls, call)
    return withRetry(RETRY, undefined, () => callTogether(this.#executor, call, shared))
  }

  /** What was admitted before the tenant was suspended is spent, so it is booked. */
  async #callEvenIfSuspended<T>(call: RawBuilder<T>, shared?: string): Promise<T> {
    const { calls } = this.#executor
    return evenIfSuspended(calls, this.#settlingDb, (db) =>
      db === calls ? this.#call(call, shared) : callAlone(db, call),
    )
  }
}

/** A transaction of the application may hold rows of its own and the account in another order. */
const RETRY = { attempts: 5, initialDelayMs: 5 }

interface AdmissionRow {
  readonly admitted: true
  readonly expiresAt: string
  readonly cost: string
  readonly currency: string
  readonly duplicate: boolean
}

function parseLease(leaseMs: unknown): number {
  if (typeof leaseMs === 'number' && Number.isInteger(leaseMs) && leaseMs >= 1 && leaseMs <= 86_400_000) return leaseMs
  throw createRowhouseError('invalid_argument', 'leaseMs is a whole number of milliseconds from 1 to 86400000.')
}
