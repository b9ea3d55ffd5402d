import { sql } from 'kysely'
import * as z from 'zod'
import type { AdminExecutor } from '../context/admin-executor.ts'
import { parseTenantId } from '../context/context-options.ts'
import { HOME } from '../context/placements.ts'
import { parse } from '../documents/parse-documents.ts'
import type { AdminDirectory } from '../placements/admin-directory.ts'
import { type SigningKey, trustedKeys } from '../signing/ed25519-keys.ts'
import type { AuditBuffer } from './audit-buffer.ts'
import { isSignedBy, signDigest } from './digest-signature.ts'

/** How far sealing or verifying is. */
export interface AuditProgress {
  readonly tenantId: string
  /** Entries of this tenant that are done. */
  readonly entries: number
  readonly totalEntries: number
  /** Tenants that are done, where it is about several. */
  readonly tenants: number
  readonly totalTenants: number
}

export interface SealOptions {
  /** Entries in one segment, 1 to 10 000. Default 1000. */
  readonly segmentSize?: number | undefined
  /** A private Ed25519 key: signs the digest of the last segment. */
  readonly signingKey?: SigningKey | undefined
  /** Told of each segment; what it throws is ignored. */
  readonly onProgress?: ((progress: AuditProgress) => void) | undefined
}

/** The trail of a tenant after it was sealed. Keep `digest` elsewhere: it stands for everything up to here. */
export interface SealedAudit {
  readonly tenantId: string
  /** Entries that were sealed by this call. */
  readonly sealed: number
  /** Number of the last segment; 0 when there is none. */
  readonly segment: number
  /** Entries of the whole trail, with those that were purged. */
  readonly entries: number
  /** SHA-256, in hexadecimal. */
  readonly digest: string
}

export interface VerifyOptions {
  /** A digest that `seal` returned earlier: it must be in the chain. */
  readonly anchor?: string | undefined
  /** Public Ed25519 keys, one of which must have signed the chain. */
  readonly publicKeys?: readonly SigningKey[] | undefined
  /** Told of every 1000 entries; what it throws is ignored. */
  readonly onProgress?: ((progress: AuditProgress) => void) | undefined
}

/** Something that is not as it was written. */
export interface AuditFinding {
  readonly kind: 'changed' | 'removed' | 'reordered' | 'inserted' | 'missing' | 'invalid'
  readonly object: 'entry' | 'segment' | 'head' | 'pending' | 'anchor' | 'signature'
  /** Of an entry: its place in the trail, from 1. */
  readonly position?: number
  readonly segment?: number
  readonly entryId?: string
}

/** The outcome of a verification. */
export interface VerifiedAudit {
  readonly tenantId: string
  /** Nothing was changed, removed, reordered or inserted. */
  readonly intact: boolean
  readonly segments: number
  /** Entries of the whole trail that are sealed. */
  readonly entries: number
  /** Those of them that retention or erasure removed. */
  readonly purgedEntries: number
  /** Entries that no segment holds yet. */
  readonly unsealed: number
  /** The end of the chain, in hexadecimal. */
  readonly digest: string
  /** Number of the last segment with a valid signature; only with `publicKeys`. */
  readonly signedThrough?: number
  readonly findingCount: number
  /** The first 100. */
  readonly findings: readonly AuditFinding[]
}

/** The last time that something was refused to a tenant and recorded, for one limit, quota, circuit, model or key. */
export interface AuditDenial {
  /** What refused. */
  readonly kind:
    | 'rate_limited'
    | 'quota_exceeded'
    | 'budget_exceeded'
    | 'circuit_open'
    | 'model_not_allowed'
    | 'refused_key'
    | 'missing_scope'
    | 'too_many_attempts'
  /** Which one: the name of the limit, quota, circuit or model; a key and its address. Empty when there are too many. */
  readonly name: string
  readonly recordedAt: Date
  /** The `error` of the entry: the kind, or why the key was refused. */
  readonly reason: string
  /** The `detail` of the entry. */
  readonly detail: Readonly<Record<string, unknown>>
}

const onProgress = z
  .custom<(progress: AuditProgress) => void>((value) => typeof value === 'function', 'is not a function')
  .optional()
const sealOptions = z.strictObject({
  segmentSize: z.int('is not a whole number').min(1, 'is less than 1').max(10_000, 'is more than 10000').optional(),
  signingKey: z.custom<SigningKey>().optional(),
  onProgress,
})
const verifyOptions = z.strictObject({
  anchor: z
    .string('is not text')
    .regex(/^[0-9a-f]{64}$/, 'is not a digest: 64 hexadecimal digits')
    .optional(),
  publicKeys: z.array(z.custom<SigningKey>(), 'is not an array').min(1, 'is empty').optional(),
  onProgress,
})

/**
 * Seals, verifies and shortens the audit trails of tenants; runs as `rowhouse_admin`.
 *
 * @example
 * ```ts
 * for (const { tenantId, digest } of await rowhouse.auditLog.seal()) logger.info({ tenantId, digest }, 'audit sealed')
 * const { intact, findings } = await rowhouse.auditLog.verify('acme')
 * ```
 */
export class AuditLog {
  readonly #admin: AdminExecutor
  readonly #buffer: AuditBuffer
  readonly #directory: AdminDirectory

  /** @internal */
  constructor(admin: AdminExecutor, buffer: AuditBuffer, directory: AdminDirectory) {
    this.#admin = admin
    this.#buffer = buffer
    this.#directory = directory
  }

  /** Entries appended with `buffered` that are not written yet: what a crash of this process would lose. */
  get buffered(): number {
    return this.#buffer.size
  }

  /**
   * Writes buffered entries now. `rowhouse.close()` does so too.
   *
   * Errors: `connection_failed`; then the entries still wait.
   */
  async flush(): Promise<void> {
    await this.#buffer.flush()
  }

  /**
   * Puts the entries since the last call into segments of the chain: of one tenant, or of every tenant that has some,
   * in whichever database of `placements`. Call it regularly; several processes may do so at once. What is not sealed yet can be removed without a trace.
   *
   * SQL: `select rowhouse.seal_audit('acme')`
   */
  seal(tenantId: string, options?: SealOptions): Promise<SealedAudit>
  seal(options?: SealOptions): Promise<SealedAudit[]>
  async seal(first: string | SealOptions = {}, second: SealOptions = {}): Promise<SealedAudit | SealedAudit[]> {
    const options = parse(sealOptions, typeof first === 'string' ? second : first, 'invalid_argument', 'The options')
    if (typeof first === 'string') return this.#seal(parseTenantId(first), options)
    const rows = await this.#unsealed()
    const sealed: SealedAudit[] = []
    for (const { tenant_id: tenantId } of rows) {
      sealed.push(await this.#seal(tenantId, options, { tenants: sealed.length, totalTenants: rows.length }))
    }
    return sealed
  }

  /**
   * Recomputes the whole chain of a tenant, also of an erased one, and compares it with the entries. Appends go on
   * meanwhile.
   *
   * SQL: `select rowhouse.verify_audit('acme')`
   *
   * @example
   * ```ts
   * const { intact, findings } = await rowhouse.auditLog.verify('acme')
   * for (const { kind, object, position } of findings) console.warn(kind, object, position)
   * ```
   */
  async verify(tenantId: string, options: VerifyOptions = {}): Promise<VerifiedAudit> {
    const id = parseTenantId(tenantId)
    const { anchor = null, publicKeys, onProgress } = parse(verifyOptions, options, 'invalid_argument', 'The options')
    const keys = publicKeys === undefined ? undefined : trustedKeys(publicKeys)
    // Chain and signatures as of one moment.
    return reportingTo(this.#admin, onProgress, ONE_TENANT).transaction(
      async (db) => {
        const { rows } = await sql<{ result: VerifiedAudit }>`
          select rowhouse.verify_audit(${id}, ${anchor}) as result`.execute(db)
        const verified = rows[0]!.result
        if (keys === undefined) return verified
        const signatures = await sql<SignatureRow>`
          select s.segment_number, g.digest, s.key_id, s.signature from rowhouse.audit_signatures s
          join rowhouse.audit_segments g on g.tenant_id = s.tenant_id and g.segment_number = s.segment_number
          where s.tenant_id = ${id} order by s.segment_number`.execute(db)
        return withSignatures(verified, signatures.rows, keys)
      },
      { isolationLevel: 'repeatable read' },
    )
  }

  /**
   * What was refused to a tenant in the last days, newest first: one for each limit, quota, circuit, model and API key.
   *
   * Refusals are entries of its trail: `rowhouse.call.refuse` for calls over a rate limit, a quota or a budget, of an open
   * circuit or a model that is not allowed, `rowhouse.key.refuse` for API keys. At most one in a minute is recorded for
   * each of them, so that nobody floods the trail; the others write nothing. An entry belongs to the transaction of the
   * refusal: inside `withTenant`, when the error leaves it, the entry is rolled back too. Leases of rate limits repeat a
   * denial in the process; what the database denied is recorded.
   *
   * SQL: `select * from rowhouse.list_denials('acme')`
   *
   * @example
   * ```ts
   * for (const { kind, name, recordedAt } of await rowhouse.auditLog.denials('acme')) console.warn(kind, name, recordedAt)
   * const entries = await acme.audit.query({ action: ['rowhouse.call.refuse', 'rowhouse.key.refuse'] })
   * ```
   */
  async denials(tenantId: string): Promise<AuditDenial[]> {
    const { rows } = await sql<AuditDenial>`
      select kind, name, recorded_at as "recordedAt", reason, detail
        from rowhouse.list_denials(${parseTenantId(tenantId)})`.execute(this.#admin.db)
    return rows
  }

  /**
   * Retention: removes the entries of all segments that were sealed before a time. The chain keeps their commitments
   * and stays verifiable; without the salts, which are removed too, nobody can tell what they were.
   *
   * SQL: `select rowhouse.purge_audit('acme', '2026-01-01')`
   */
  async purge(tenantId: string, options: { readonly before: Date }): Promise<{ readonly removed: number }> {
    const { before } = parse(
      z.strictObject({ before: z.date('is not a date') }),
      options,
      'invalid_argument',
      'The options',
    )
    const { rows } = await sql<{ result: { removed: number } }>`
      select rowhouse.purge_audit(${parseTenantId(tenantId)}, ${before}) as result`.execute(this.#admin.db)
    return { removed: rows[0]!.result.removed }
  }

  async #unsealed(): Promise<{ readonly tenant_id: string }[]> {
    const found = await Promise.all(
      this.#directory.all.map(async ([name, { db }]) => {
        const { rows } = await sql<{ tenant_id: string }>`select tenant_id from rowhouse.unsealed_audits()`.execute(db)
        if (name === HOME || rows.length === 0) return rows
        // Others may share that database: the tenants of this home are those of its registry.
        const own = await sql<{ tenant_id: string }>`
          select tenant_id from rowhouse.tenants
            where tenant_id = any(${rows.map((row) => row.tenant_id)}) and status = 'moved'`.execute(
          this.#directory.get(HOME).db,
        )
        return own.rows
      }),
    )
    return found.flat()
  }

  async #seal(
    tenantId: string,
    { segmentSize = 1000, signingKey, onProgress }: SealOptions,
    place = ONE_TENANT,
  ): Promise<SealedAudit> {
    const admin = reportingTo(this.#admin, onProgress, place)
    const seal = async (db: AdminExecutor['db']): Promise<SealedAudit> => {
      const { rows } = await sql<{ result: SealedAudit }>`
        select rowhouse.seal_audit(${tenantId}, ${segmentSize}) as result`.execute(db)
      return rows[0]!.result
    }
    if (signingKey === undefined) return seal(admin.db)
    return admin.transaction(async (db) => {
      const sealed = await seal(db)
      if (sealed.segment === 0) return sealed
      const { keyId, signature } = signDigest(sealed.digest, signingKey)
      await sql`select rowhouse.sign_audit(${tenantId}, ${sealed.segment}, ${keyId}, ${signature})`.execute(db)
      return sealed
    })
  }
}

const ONE_TENANT = { tenants: 0, totalTenants: 1 }

/** The executor with a listener for the progress of one tenant, if there is one. */
function reportingTo(
  admin: AdminExecutor,
  onProgress: ((progress: AuditProgress) => void) | undefined,
  place: typeof ONE_TENANT,
): AdminExecutor {
  if (onProgress === undefined) return admin
  return admin.reporting(({ object: tenantId, done: entries, total }) =>
    onProgress({ tenantId, entries, totalEntries: total ?? entries, ...place }),
  )
}

interface SignatureRow {
  readonly segment_number: string
  readonly digest: Buffer
  readonly key_id: string
  readonly signature: Buffer
}

function withSignatures(
  verified: VerifiedAudit,
  signatures: readonly SignatureRow[],
  keys: ReturnType<typeof trustedKeys>,
): VerifiedAudit {
  const findings: AuditFinding[] = []
  let signedThrough = 0
  for (const { segment_number, digest, key_id: keyId, signature } of signatures) {
    const key = keys.get(keyId)
    if (key === undefined) continue
    const segment = Number(segment_number)
    if (isSignedBy(digest.toString('hex'), signature, key)) signedThrough = segment
    else findings.push({ kind: 'invalid', object: 'signature', segment })
  }
  if (signedThrough === 0 && verified.segments > 0) findings.push({ kind: 'missing', object: 'signature' })
  return {
    ...verified,
    intact: verified.intact && findings.length === 0,
    signedThrough,
    findingCount: verified.findingCount + findings.length,
    findings: [...verified.findings, ...findings].slice(0, 100),
  }
}
