import { isDeepStrictEqual } from 'node:util'
import { sql } from 'kysely'
import * as z from 'zod'
import { parseOptions, parseTenantId } from '../context/context-options.ts'
import { createRowhouseError } from '../errors.ts'
import type { AdminDirectory, Hop } from '../placements/admin-directory.ts'
import { type OwnerConnection, runAsOwner } from '../protect/protect.ts'
import type { SigningKey } from '../signing/ed25519-keys.ts'
import type { ErasureReceipt } from '../tenants/erasure-receipt.ts'
import { signErasureCertificate, verifyErasureCertificate } from './erasure-certificate.ts'

/** Somewhere in the database where something of an erased tenant was found, or could not be looked for. */
export interface Residue {
  /** A table, or what else of the database. */
  readonly object: string
  /** Rows that hold it; undefined where it could not be looked for. */
  readonly rows: number | undefined
  /** What that means, and what to do. */
  readonly note: string
}

export interface ResidueOptions {
  /** What else to look for besides the id, such as names and addresses: texts of at least 3 characters. */
  readonly texts?: readonly string[] | undefined
}

export interface VerifyErasureOptions extends ResidueOptions {
  /** The certificate that was handed out, and the keys that may have signed it. */
  readonly certificate?: string | undefined
  readonly publicKeys?: readonly SigningKey[] | undefined
}

/** What is left to say of an erasure. */
export interface ErasureVerification {
  readonly receipt: ErasureReceipt
  /** Whether the receipt is the one that was written, in an unbroken chain, and that of the certificate if one was given. */
  readonly intact: boolean
  /** Where something of the tenant was found, or could not be looked for. Empty: nothing is left. */
  readonly residue: readonly Residue[]
}

const residueOptions = z.strictObject({
  texts: z.array(z.string().min(3, 'has texts of at least 3 characters')).max(100).optional(),
})
const verifyOptions = residueOptions.extend({
  certificate: z.string().optional(),
  publicKeys: z.array(z.any()).optional(),
})

/** Evidence of erasures, and the search for what they left; each in the database where the tenant was erased. */
export class Erasures {
  readonly #directory: AdminDirectory
  readonly #ownerOf: (placement: string) => OwnerConnection

  /** @internal */
  constructor(directory: AdminDirectory, ownerOf: (placement: string) => OwnerConnection) {
    this.#directory = directory
    this.#ownerOf = ownerOf
  }

  /**
   * The receipt of the erasure of a tenant, as it was stored.
   *
   * SQL: `select receipt from rowhouse.erasures where tenant_id = 'acme'`
   *
   * Errors: `tenant_not_found` when no tenant of this id was erased; `tenant_moved` when it moved to a database that is
   * none of `placements`.
   */
  async receipt(tenantId: string): Promise<ErasureReceipt> {
    const id = parseTenantId(tenantId)
    return this.#receiptAt(await this.#locate(id), id)
  }

  /** Where the tenant is, or was erased. */
  async #locate(id: string): Promise<Hop> {
    const hop = await this.#directory.locate(id)
    if (hop.row?.status !== 'moved') return hop
    const cause = Object.assign(new Error('moved'), { detail: hop.row.placement })
    throw createRowhouseError('tenant_moved', `tenant "${id}" is in another database`, { cause })
  }

  async #receiptAt({ admin }: Hop, id: string): Promise<ErasureReceipt> {
    const { rows } = await sql<{ receipt: ErasureReceipt }>`
      select receipt from rowhouse.erasures
        where tenant_id = ${id} and not receipt ? 'movedTo' order by erasure_number desc limit 1`.execute(admin.db)
    if (rows[0] === undefined) {
      throw createRowhouseError('tenant_not_found', `No tenant "${id}" was erased.`, {
        hint: 'Erase it with rowhouse.tenants.erase(id).',
      })
    }
    return rows[0].receipt
  }

  /**
   * Signs the receipt of an erasure with an Ed25519 key, to hand it out: a JWS in compact form with the receipt as its
   * payload. {@link verifyErasureCertificate} checks it without a database.
   *
   * Errors: those of {@link receipt}; `invalid_argument` when the key is none.
   *
   * @example
   * ```ts
   * await rowhouse.tenants.erase('acme')
   * const certificate = await rowhouse.erasures.certify('acme', signingKey)
   * ```
   */
  async certify(tenantId: string, signingKey: SigningKey): Promise<string> {
    return signErasureCertificate(await this.receipt(tenantId), signingKey)
  }

  /**
   * Looks in the whole database for an erased tenant: its id as a word of its own, and texts that you name, in every
   * column of every table, in large objects, in statistics of the planner, and in comments, settings and names. Reads
   * everything once, so it takes as long as a dump. The evidence of the erasure itself (registry, receipts, the chain of
   * the audit trail) may name the id.
   *
   * Runs as the login. Only a superuser sees what other tenants wrote about this one; for everybody else protected
   * tables are in the result as not looked through, after a look for rows of the tenant itself.
   *
   * SQL: `select * from rowhouse.find_residue('acme', array['Ada Lovelace'])`
   *
   * @example
   * ```ts
   * const residue = await rowhouse.erasures.findResidue('acme', { texts: ['Acme Inc.', 'ada@acme.example'] })
   * for (const { object, rows, note } of residue) logger.warn({ object, rows }, note)
   * ```
   */
  async findResidue(tenantId: string, options: ResidueOptions = {}): Promise<Residue[]> {
    const id = parseTenantId(tenantId)
    return this.#residueAt(await this.#locate(id), id, options)
  }

  #residueAt({ name }: Hop, id: string, options: ResidueOptions): Promise<Residue[]> {
    const { texts = [] } = parseOptions(residueOptions, options)
    return runAsOwner(this.#ownerOf(name), async (client) => {
      const { rows } = await client.query<{ object: string; rows: string | null; note: string }>(
        'select object, matches as rows, note from rowhouse.find_residue($1, $2)',
        [id, texts],
      )
      return rows.map(({ object, rows: count, note }) => ({
        object,
        rows: count === null ? undefined : Number(count),
        note,
      }))
    })
  }

  /**
   * Checks the receipt of an erasure against the chain of receipts, and against a certificate if one is given, and looks
   * for residue as {@link findResidue} does.
   *
   * Errors: those of {@link receipt} and of {@link verifyErasureCertificate}.
   *
   * @example
   * ```ts
   * const { intact, residue } = await rowhouse.erasures.verify('acme', { certificate, publicKeys: [publicKey] })
   * ```
   */
  async verify(tenantId: string, options: VerifyErasureOptions = {}): Promise<ErasureVerification> {
    const { certificate, publicKeys = [], texts } = parseOptions(verifyOptions, options) as VerifyErasureOptions
    const id = parseTenantId(tenantId)
    const hop = await this.#locate(id)
    const receipt = await this.#receiptAt(hop, id)
    const certified = certificate === undefined ? receipt : await verifyErasureCertificate(certificate, { publicKeys })
    const { rows } = await sql<{ intact: boolean }>`
      select coalesce(bool_and(v.intact), false) as intact from rowhouse.verify_erasures() v
        where v.erasure_number = ${receipt.erasureNumber}`.execute(hop.admin.db)
    return {
      receipt,
      intact: rows[0]!.intact && isDeepStrictEqual(certified, receipt),
      residue: await this.#residueAt(hop, id, { texts }),
    }
  }
}
