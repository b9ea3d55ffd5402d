import { sql } from 'kysely'
import type { AdminExecutor } from '../context/admin-executor.ts'
import { type SealKey, sealKeyBytes } from '../context/seal.ts'
import { mapDatabaseError } from '../errors.ts'
import type { OwnerConnection } from '../protect/protect.ts'

/** A key that the database knows, without the key. */
export interface SealInfo {
  /** First 16 digits of the SHA-256 of the key. */
  readonly keyId: string
  readonly addedAt: Date
}

/**
 * Sealed contexts, for operators. In a database that requires seals, `app.tenant_id` is believed only with a proof that
 * SQL can't make, so a statement injected into a tenant's transaction can't become another tenant.
 *
 * In this order, without an interruption: add a key, give it to every application as the option `seal`, require seals.
 *
 * @example
 * ```ts
 * await rowhouse.seals.addKey(process.env.ROWHOUSE_SEAL!)
 * // deploy applications with createRowhouse({ connectionString, seal: process.env.ROWHOUSE_SEAL })
 * await rowhouse.seals.require(true)
 * ```
 */
export class Seals {
  readonly #admin: AdminExecutor
  readonly #owner: OwnerConnection
  readonly #onChange: () => void

  /** @internal */
  constructor(admin: AdminExecutor, owner: OwnerConnection, onChange: () => void) {
    this.#admin = admin
    this.#owner = owner
    this.#onChange = onChange
  }

  /**
   * Lets applications that have this key prove their tenants; returns its id. To rotate: add the new key, deploy it,
   * drop the old one. The key travels as a parameter: on a server that logs parameters it would be in the log.
   *
   * SQL: `select rowhouse.add_seal_key($1)`
   *
   * Errors: `invalid_argument` when it does not have 32 to 64 bytes.
   */
  async addKey(key: SealKey): Promise<string> {
    const bytes = Buffer.from(sealKeyBytes(key))
    const { rows } = await sql<{ id: string }>`select rowhouse.add_seal_key(${bytes}) as id`.execute(this.#admin.db)
    return rows[0]!.id
  }

  /**
   * Refuses proofs of this key from the next transaction on; returns whether there was one.
   *
   * SQL: `select rowhouse.drop_seal_key('630dcd2966c43366')`
   */
  async dropKey(keyId: string): Promise<boolean> {
    const { rows } = await sql<{ found: boolean }>`select rowhouse.drop_seal_key(${keyId}) as found`.execute(
      this.#admin.db,
    )
    return rows[0]!.found
  }

  /**
   * The keys that the database knows, oldest first.
   *
   * SQL: `select * from rowhouse.list_seal_keys()`
   */
  async keys(): Promise<SealInfo[]> {
    const { rows } = await sql<{ key_id: string; added_at: Date }>`
      select key_id, added_at from rowhouse.list_seal_keys()`.execute(this.#admin.db)
    return rows.map((row) => ({ keyId: row.key_id, addedAt: row.added_at }))
  }

  /**
   * Whether the database believes a tenant only with a proof.
   *
   * SQL: `select rowhouse.seals_required()`
   */
  async required(): Promise<boolean> {
    const { rows } = await sql<{ required: boolean }>`select rowhouse.seals_required() as required`.execute(
      this.#admin.db,
    )
    return rows[0]!.required
  }

  /**
   * Makes the database believe a tenant only with a proof, or not any longer: writes the policies of every protected
   * table anew in one transaction, which locks each of them for that time. Runs as the login, which must own the tables.
   *
   * SQL: `select rowhouse.require_seals(true)`
   *
   * @returns The number of tables.
   */
  async require(required: boolean): Promise<number> {
    try {
      const { rows } = await this.#owner((client) =>
        client.query<{ tables: string }>('select rowhouse.require_seals($1) as tables', [required]),
      )
      return Number(rows[0]!.tables)
    } catch (error) {
      throw mapDatabaseError(error)
    } finally {
      this.#onChange()
    }
  }
}
