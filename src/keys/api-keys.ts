import { isIP } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { type Kysely, sql } from 'kysely'
import * as z from 'zod'
import type { AdminExecutor } from '../context/admin-executor.ts'
import { parseTenantId } from '../context/context-options.ts'
import { runWithoutAmbientTenant } from '../context/current-tenant.ts'
import { parse } from '../documents/parse-documents.ts'
import { storableText } from '../documents/parse-text.ts'
import { InvalidApiKeyError, type InvalidApiKeyReason, RowhouseError, TooManyAttemptsError } from '../errors.ts'
import { BlockedSources } from './blocked-sources.ts'
import { digestOf, formatKey, generateKey, parseKey } from './key-format.ts'

export type ApiKeyEnvironment = 'live' | 'test'

export interface IssueApiKeyOptions {
  /** Name for people. */
  readonly name: string
  /** What the key may do: `documents:read`, `documents:*`, or `*` for everything, which is the default. */
  readonly scopes?: readonly string[]
  /** Networks from which it may be used: `203.0.113.0/24`, `2001:db8::/32`, a single address. Default: any. */
  readonly allowedIps?: readonly string[]
  /** Default `live`. */
  readonly environment?: ApiKeyEnvironment | undefined
  /** Refused from then on: a time that is to come. Default: never. */
  readonly expiresAt?: Date
}

export interface RotateApiKeyOptions {
  /** How long the old key goes on, in milliseconds; never longer than before. Default: a day. */
  readonly overlapMs?: number | undefined
  /** When the new key expires; null: never. Default: when the old one would have. */
  readonly expiresAt?: Date | null | undefined
}

/** A key, without its secret. */
export interface ApiKey {
  readonly tenantId: string
  /** The public part. */
  readonly id: string
  readonly name: string
  readonly environment: ApiKeyEnvironment
  readonly scopes: readonly string[]
  readonly allowedIps: readonly string[] | null
  readonly createdAt: Date
  readonly expiresAt: Date | null
  /** To the minute. */
  readonly lastUsedAt: Date | null
  readonly revokedAt: Date | null
  /** The id of the key that took its place in a rotation. */
  readonly replacedBy: string | null
}

/** A new key: the only time that its secret is there. */
export interface IssuedApiKey extends ApiKey {
  /** `rh_<tier>_<tenant>_<public id>_<secret>`. Show it once; it is stored nowhere. */
  readonly key: string
}

export interface AuthenticateOptions {
  /** Where the request comes from; needed by keys with `allowedIps`. */
  readonly ip?: string | undefined
  /** What the request needs: all of them. Left out: nothing; undefined is refused. */
  readonly scopes?: readonly string[]
}

/** What restricts a key may be left out, but undefined is a mistake: it would be a key that may more. */
const either = (message: string) => ({
  error: ({ input }: { readonly input?: unknown }) =>
    input === undefined ? 'is undefined; set the variable that it comes from, or leave it out' : message,
})

const scope = storableText(100)
const issueOptions = z.strictObject({
  name: storableText(200),
  scopes: z.array(scope, either('is not an array')).max(100, 'has more than 100 scopes').exactOptional(),
  allowedIps: z
    .array(z.string(), either('is not an array'))
    .min(1, 'is empty')
    .max(100, 'has more than 100')
    .exactOptional(),
  environment: z.enum(['live', 'test'], 'is not live or test').default('live'),
  expiresAt: z.date(either('is not a date')).exactOptional(),
})
const rotateOptions = z.strictObject({
  overlapMs: z
    .int('is not a whole number')
    .min(0, 'is negative')
    .default(24 * 60 * 60 * 1000),
  expiresAt: z.date('is not a date').nullish(),
})
const authenticateOptions = z.strictObject({
  ip: z.string('is not text').optional(),
  scopes: z.array(scope, either('is not an array')).exactOptional(),
})
const keyId = z.string('is not text').regex(/^[0-9a-f]{16}$/, 'is not 16 hexadecimal digits')

/** No refusal comes faster, whatever its reason, so that how long it takes tells little about the reason. */
const REFUSAL_MS = 40

/** A database of the tenant, in which each statement is a transaction. */
export type OpenTenant = (tenantId: string) => Kysely<any>

/**
 * API keys of tenants. Issue, rotate, revoke and list are for operators; `authenticate` is for every request.
 *
 * @example
 * ```ts
 * const { key } = await rowhouse.apiKeys.issue('acme', { name: 'importer', scopes: ['documents:*'] })
 * const { tenantId } = await rowhouse.apiKeys.authenticate(key, { scopes: ['documents:write'] })
 * ```
 */
export class ApiKeys {
  readonly #admin: AdminExecutor
  readonly #openTenant: OpenTenant
  /** As the application, in no tenant: for keys whose tenant can't be entered. */
  readonly #outside: Kysely<any>
  readonly #blocked = new BlockedSources()

  /** @internal */
  constructor(admin: AdminExecutor, openTenant: OpenTenant, outside: Kysely<any>) {
    this.#admin = admin
    this.#openTenant = openTenant
    this.#outside = outside
  }

  /**
   * Makes a key. Its secret never reaches the database, which keeps a digest.
   *
   * SQL: `select rowhouse.issue_api_key('acme', $1, $2, 'importer', 'live', '{documents:*}', null, null)`
   *
   * Errors: `tenant_not_found`, `tenant_inactive`, `invalid_api_key_options`.
   */
  async issue(tenantId: string, options: IssueApiKeyOptions): Promise<IssuedApiKey> {
    const id = parseTenantId(tenantId)
    const parsed = parse(issueOptions, options, 'invalid_api_key_options', 'The options')
    const made = generateKey()
    const { rows } = await sql<{ result: IssuedRow }>`
      select rowhouse.issue_api_key(${id}, ${made.keyId}, ${digestOf(made.secret)}, ${parsed.name}, ${parsed.environment},
        ${parsed.scopes ?? ['*']}::text[], ${parsed.allowedIps ?? null}::text[], ${parsed.expiresAt ?? null}) as result`.execute(
      this.#admin.db,
    )
    const { tier, ...row } = rows[0]!.result
    return { ...toApiKey(id, row), key: formatKey(tier, { tenantId: id, ...made }) }
  }

  /**
   * Makes a key that takes over name, scopes, environment, networks and expiry of another one. Both work for `overlapMs`
   * (default: a day), so that the owner can change over without an interruption.
   *
   * SQL: `select rowhouse.rotate_api_key('acme', '4d1c...', $1, $2, '1 day', null)`
   *
   * Errors: `api_key_not_found`, `invalid_api_key_options` when the key was revoked, or has expired and `expiresAt` says
   * nothing else.
   *
   * @example
   * ```ts
   * const [old] = await rowhouse.apiKeys.list('acme')
   * const { key } = await rowhouse.apiKeys.rotate('acme', old!.id, { overlapMs: 60 * 60 * 1000 })
   * ```
   */
  async rotate(tenantId: string, id: string, options: RotateApiKeyOptions = {}): Promise<IssuedApiKey> {
    const tenant = parseTenantId(tenantId)
    const old = parse(keyId, id, 'invalid_argument', 'The id of the key')
    const { overlapMs, expiresAt } = parse(rotateOptions, options, 'invalid_argument', 'The options')
    const made = generateKey()
    const { rows } = await sql<{ result: IssuedRow }>`
      select rowhouse.rotate_api_key(${tenant}, ${old}, ${made.keyId}, ${digestOf(made.secret)},
        ${`${overlapMs} milliseconds`}::interval,
        ${expiresAt === null ? 'infinity' : (expiresAt ?? null)}::timestamptz) as result`.execute(this.#admin.db)
    const { tier, ...row } = rows[0]!.result
    return { ...toApiKey(tenant, row), key: formatKey(tier, { tenantId: tenant, ...made }) }
  }

  /**
   * Revokes a key: refused from now on, everywhere.
   *
   * SQL: `select rowhouse.revoke_api_key('acme', '4d1c...', 'leaked')`
   *
   * Errors: `api_key_not_found`.
   */
  async revoke(tenantId: string, id: string, options: { readonly reason?: string | undefined } = {}): Promise<void> {
    const old = parse(keyId, id, 'invalid_argument', 'The id of the key')
    const { reason = null } = parse(
      z.strictObject({ reason: storableText(500).optional() }),
      options,
      'invalid_argument',
      'The options',
    )
    await sql`select rowhouse.revoke_api_key(${parseTenantId(tenantId)}, ${old}, ${reason})`.execute(this.#admin.db)
  }

  /**
   * The keys of a tenant, oldest first, with those that are revoked or expired.
   *
   * SQL: `select rowhouse.list_api_keys('acme')`
   */
  async list(tenantId: string): Promise<ApiKey[]> {
    const id = parseTenantId(tenantId)
    const { rows } = await sql<{ keys: KeyRow[] }>`select rowhouse.list_api_keys(${id}) as keys`.execute(this.#admin.db)
    return rows[0]!.keys.map((row) => toApiKey(id, row))
  }

  /**
   * Whose key it is. One round trip, as the tenant that the key names and under its row-level security; writes at most
   * once a minute.
   *
   * Everything that is wrong with a key is one error, of one message and after a similar time; its `reason` is for your
   * log, and is in the audit trail of the tenant. Guesses (unknown keys, wrong secrets, unknown tenants) are counted by address
   * and claimed tenant, for all server processes: a stranger elsewhere keeps no valid key from working, and neither does a
   * key at the same address that is right but expired, revoked or from a wrong network. Without `ip` they are counted by
   * key.
   *
   * SQL: `set local app.tenant_id = 'acme'`, `select rowhouse.authenticate_api_key('4d1c...', $1, '203.0.113.7')`
   *
   * Errors: {@link InvalidApiKeyError} (401), {@link TooManyAttemptsError} (429) after 20 guesses of one source in a
   * minute.
   *
   * @example
   * ```ts
   * try {
   *   const { tenantId, scopes } = await rowhouse.apiKeys.authenticate(apiKey, { ip: '203.0.113.7' })
   *   logger.info({ tenantId, scopes }, 'authenticated')
   * } catch (error) {
   *   if (error instanceof InvalidApiKeyError) logger.info({ reason: error.reason }, 'refused')
   *   throw error
   * }
   * ```
   */
  async authenticate(key: string, options: AuthenticateOptions = {}): Promise<ApiKey> {
    const { ip, scopes = [] } = parse(authenticateOptions, options, 'invalid_argument', 'The options')
    const address = normalizeIp(ip)
    const begun = performance.now()
    const parts = typeof key === 'string' ? parseKey(key) : undefined
    const source = JSON.stringify([parts?.tenantId, address ?? parts?.keyId])
    const waitMs = this.#blocked.waitFor(source)
    if (waitMs > 0) throw new TooManyAttemptsError(waitMs)
    const outcome = await this.#check(parts, address, scopes)
    if (!('refused' in outcome)) return toApiKey(parts!.tenantId, outcome)
    const { refused, retryAfterMs } = outcome
    if (retryAfterMs !== undefined) this.#blocked.block(source, retryAfterMs)
    await delay(Math.max(0, REFUSAL_MS - (performance.now() - begun)))
    if (refused === 'too_many_attempts') throw new TooManyAttemptsError(retryAfterMs!)
    throw new InvalidApiKeyError(refused)
  }

  async #check(
    parts: ReturnType<typeof parseKey>,
    ip: string | undefined,
    scopes: readonly string[],
  ): Promise<KeyRow | Refusal> {
    if (parts === undefined) return this.#refuseUnknown(undefined, ip, 'malformed')
    const { tenantId, keyId: id, secret } = parts
    try {
      // Also inside withTenant: who asks is no matter of the transaction around it.
      const { rows } = await runWithoutAmbientTenant(() =>
        sql<{ result: KeyRow | Refusal }>`
          select rowhouse.authenticate_api_key(${id}, ${digestOf(secret)}, ${ip ?? null}::inet, ${scopes}::text[]) as result`.execute(
          this.#openTenant(tenantId),
        ),
      )
      return rows[0]!.result
    } catch (error) {
      const reason = error instanceof RowhouseError ? TENANT_REASONS[error.code] : undefined
      if (reason === undefined) throw error
      return this.#refuseUnknown(parts, ip, reason)
    }
  }

  /** Counts a refusal that no tenant can count. */
  async #refuseUnknown(
    parts: ReturnType<typeof parseKey>,
    ip: string | undefined,
    reason: InvalidApiKeyReason,
  ): Promise<Refusal> {
    const { rows } = await runWithoutAmbientTenant(() =>
      sql<{ wait: number }>`
        select rowhouse.refuse_unknown_key(${parts?.tenantId ?? null}, ${ip ?? null}::inet, ${parts?.keyId ?? null}) as wait`.execute(
        this.#outside,
      ),
    )
    const { wait } = rows[0]!
    return wait > 0 ? { refused: 'too_many_attempts', retryAfterMs: wait } : { refused: reason }
  }
}

/** Why a key was refused. */
interface Refusal {
  readonly refused: InvalidApiKeyReason | 'too_many_attempts'
  readonly retryAfterMs?: number
}

/** The tenant is looked at before its key is. */
const TENANT_REASONS: Readonly<Record<string, InvalidApiKeyReason>> = {
  tenant_not_found: 'unknown_tenant',
  tenant_suspended: 'tenant_suspended',
  tenant_inactive: 'tenant_inactive',
}

/** An IPv4 address that came in over an IPv6 socket, as IPv4. What is no address is treated as unknown. */
function normalizeIp(ip: string | undefined): string | undefined {
  if (ip === undefined) return undefined
  const address = ip.replace(/^::ffff:(?=\d+\.)/i, '').replace(/%.*$/, '')
  return isIP(address) === 0 ? undefined : address
}

/** A key as the functions return it. */
interface KeyRow {
  readonly id: string
  readonly name: string
  readonly environment: ApiKeyEnvironment
  readonly scopes: string[]
  readonly allowedIps: string[] | null
  readonly createdAt: string
  readonly expiresAt: string | null
  readonly lastUsedAt: string | null
  readonly revokedAt: string | null
  readonly replacedBy: string | null
}

interface IssuedRow extends KeyRow {
  readonly tier: string
}

function toApiKey(tenantId: string, row: KeyRow): ApiKey {
  const toDate = (text: string | null) => (text === null ? null : new Date(text))
  return {
    tenantId,
    ...row,
    createdAt: new Date(row.createdAt),
    expiresAt: toDate(row.expiresAt),
    lastUsedAt: toDate(row.lastUsedAt),
    revokedAt: toDate(row.revokedAt),
  }
}
