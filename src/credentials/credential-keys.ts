import { sql } from 'kysely'
import type { AdminExecutor } from '../context/admin-executor.ts'
import { RowhouseError } from '../errors.ts'
import type { Tenants } from '../tenants/tenants.ts'
import type { DataKeys } from './data-keys.ts'

/** How far a rotation has come. */
export interface RewrapProgress {
  readonly tenantId: string
  /** Tenants looked at so far. */
  readonly tenants: number
  /** Data keys encrypted anew so far. */
  readonly keys: number
}

export interface RewrapResult {
  readonly tenants: number
  /** Data keys that were encrypted anew. */
  readonly keys: number
  /** Data keys that could not be: they still need their old master key, or are damaged. */
  readonly failed: readonly { readonly tenantId: string; readonly keyVersion: number; readonly error: RowhouseError }[]
}

const PAGE = 500

/** Rotation of the master key, for operators. */
export class CredentialKeys {
  readonly #admin: AdminExecutor
  readonly #tenants: Tenants
  readonly #keys: DataKeys

  /** @internal */
  constructor(admin: AdminExecutor, tenants: Tenants, keys: DataKeys) {
    this.#admin = admin
    this.#tenants = tenants
    this.#keys = keys
  }

  /**
   * Encrypts the data keys of all tenants by the provider's current master key, where another one did: after it, the old
   * master key is not needed any more, but for those that `failed` names. Credentials stay as they are, and others use
   * them meanwhile. Interrupted, it is finished by calling it again.
   *
   * SQL: `select rowhouse.rewrap_credential_key('acme', 1, $1, '2026-11', $2)`
   *
   * @example
   * ```ts
   * // ROWHOUSE_MASTER_KEYS="<new> <old>" in every process, then:
   * const { keys, failed } = await rowhouse.credentialKeys.rewrap()
   * if (failed.length === 0) logger.info({ keys }, 'the old master key can go')
   * ```
   */
  async rewrap(options: { readonly onProgress?: (progress: RewrapProgress) => void } = {}): Promise<RewrapResult> {
    const current = await this.#keys.provider.currentKeyId()
    const result = { tenants: 0, keys: 0, failed: [] as RewrapResult['failed'][number][] }
    for (let after: string | undefined; ; ) {
      const page = await this.#tenants.list({ after, limit: PAGE })
      for (const { id: tenantId, status } of page) {
        if (status === 'erased' || status === 'erasing') continue
        for (const key of await this.#keysOf(tenantId)) {
          if (key.masterKeyId === current) continue
          try {
            if (await this.#rewrapKey(tenantId, key)) result.keys++
          } catch (error) {
            // One tenant whose key is damaged keeps no other from a new master key.
            if (!(error instanceof RowhouseError) || error.retryable) throw error
            result.failed.push({ tenantId, keyVersion: key.keyVersion, error })
          }
        }
        result.tenants++
        options.onProgress?.({ tenantId, tenants: result.tenants, keys: result.keys })
      }
      if (page.length < PAGE) return result
      after = page.at(-1)!.id
    }
  }

  async #keysOf(tenantId: string): Promise<ListedKey[]> {
    const { rows } = await sql<{ keys: ListedKey[] }>`
      select rowhouse.list_credential_keys(${tenantId}) as keys`.execute(this.#admin.db)
    return rows[0]!.keys
  }

  async #rewrapKey(tenantId: string, { keyVersion, masterKeyId, wrappedKey }: ListedKey): Promise<boolean> {
    const context = { tenantId, keyVersion }
    const old = Buffer.from(wrappedKey, 'base64')
    const next = await this.#keys.rewrap({ masterKeyId, wrapped: old }, context)
    const { rows } = await sql<{ done: boolean }>`
      select rowhouse.rewrap_credential_key(${tenantId}, ${keyVersion}, ${old}, ${next.masterKeyId},
        ${Buffer.from(next.wrapped)}) as done`.execute(this.#admin.db)
    return rows[0]!.done
  }
}

interface ListedKey {
  readonly keyVersion: number
  readonly masterKeyId: string
  /** Base 64. */
  readonly wrappedKey: string
}
