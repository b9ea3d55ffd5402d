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

export interface SealOptions {
  /** Entries in one segment, 1 to 10 000. Default 1000. */
  readonly segmentSize?: number | undefined
  /** A private Ed25519 key: signs the digest of the last segment. */
  readonly signingKey?: SigningKey | undefined
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

const sealOptions = z.strictObject({
  segmentSize: z.int('is not a whole number').min(1, 'is less than 1').max(10_000, 'is more than 10000').optional(),
  signingKey: z.custom<SigningKey>().optional(),
})
const verifyOptions = z.strictObject({
  anchor: z
    .string('is not text')
    .regex(/^[0-9a-f]{64}$/, 'is not a digest: 64 hexadecimal digits')
    .optional(),
  publicKeys: z.array(z.custom<SigningKey>(), 'is not an array').min(1, 'is empty').optional(),
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
    for (const { tenant_id: tenantId } of rows) sealed.push(await this.#seal(tenantId, options))
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
    const { anchor = null, publicKeys } = parse(verifyOptions, options, 'invalid_argument', 'The options')
    const keys = publicKeys === undefined ? undefined : trustedKeys(publicKeys)
    // Chain and signatures as of one moment.
    return this.#admin.transaction(
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

  async #seal(tenantId: string, { segmentSize = 1000, signingKey }: SealOptions): Promise<SealedAudit> {
    const seal = async (db: AdminExecutor['db']): Promise<SealedAudit> => {
      const { rows } = await sql<{ result: SealedAudit }>`
        select rowhouse.seal_audit(${tenantId}, ${segmentSize}) as result`.execute(db)
      return rows[0]!.result
    }
    if (signingKey === undefined) return seal(this.#admin.db)
    return this.#admin.transaction(async (db) => {
      const sealed = await seal(db)
      if (sealed.segment === 0) return sealed
      const { keyId, signature } = signDigest(sealed.digest, signingKey)
      await sql`select rowhouse.sign_audit(${tenantId}, ${sealed.segment}, ${keyId}, ${signature})`.execute(db)
      return sealed
    })
  }
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
