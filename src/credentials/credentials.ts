import { sql } from 'kysely'
import * as z from 'zod'
import type { TenantExecutor } from '../context/tenant-executor.ts'
import { parse } from '../documents/parse-documents.ts'
import { createRowhouseError, RowhouseError } from '../errors.ts'
import type { DataKeys } from './data-keys.ts'
import { decrypt, encrypt } from './key-provider.ts'
import { Secret } from './secret.ts'

/** A credential, without its value. */
export interface CredentialInfo {
  readonly name: string
  /** The data key that encrypted it. */
  readonly keyVersion: number
  readonly createdAt: Date
  readonly updatedAt: Date
}

const credentialName = z
  .string('is not text')
  .regex(
    /^[a-zA-Z0-9][a-zA-Z0-9_.:/-]{0,199}$/,
    'is not 1 to 200 letters, digits, or _ . : / - that begin with one of the former',
  )

/** Rotations that a call waits out. */
const ATTEMPTS = 5

/**
 * What a tenant needs to use other services: API keys, tokens, passwords. Encrypted in this process (AES-256-GCM) by a data
 * key of the tenant, which a master key encrypts; the database sees neither values nor master keys. Erasing the tenant
 * destroys its data keys.
 */
export class Credentials {
  readonly #executor: TenantExecutor
  readonly #keys: DataKeys

  /** @internal */
  constructor(executor: TenantExecutor, keys: DataKeys) {
    this.#executor = executor
    this.#keys = keys
  }

  /**
   * Stores a credential, in place of the one of this name.
   *
   * SQL: `select rowhouse.put_credential('openai/api-key', 1, $1)`, of which `$1` is encrypted
   *
   * Errors: `invalid_credential`, `master_key_missing`.
   *
   * @example
   * ```ts
   * await acme.credentials.set('openai/api-key', 'sk-...')
   * const secret = await acme.credentials.get('openai/api-key')
   * const headers = { authorization: `Bearer ${secret?.reveal()}` }
   * ```
   */
  async set(name: string, value: string): Promise<void> {
    const checked = parse(credentialName, name, 'invalid_credential', 'The name of the credential')
    // Not parsed by zod, whose message could repeat the value.
    if (typeof value !== 'string' || value === '' || Buffer.byteLength(value) > 65_536) {
      throw createRowhouseError(
        'invalid_credential',
        `The value of the credential "${checked}" is not text of 1 byte to 64 KB.`,
      )
    }
    for (let attempt = 1; ; attempt++) {
      const { keyVersion, key } = await this.#latestKey()
      const sealed = encrypt(key, Buffer.from(value), this.#binding(checked, keyVersion))
      try {
        await this.#executor.transaction((db) =>
          sql`select rowhouse.put_credential(${checked}, ${keyVersion}, ${sealed})`.execute(db),
        )
        return
      } catch (error) {
        const rotated = error instanceof RowhouseError && error.code === 'credential_key_rotated'
        if (!rotated || attempt === ATTEMPTS) throw error
      }
    }
  }

  /**
   * A credential, or undefined when there is none of this name. It shows its value only when asked: `reveal()`.
   *
   * SQL: `select sealed, wrapped_key from rowhouse.credentials join rowhouse.credential_keys ... where name = 'openai/api-key'`
   *
   * Errors: `credential_unreadable`, `master_key_missing`.
   */
  async get(name: string): Promise<Secret | undefined> {
    const checked = parse(credentialName, name, 'invalid_credential', 'The name of the credential')
    const { tenantId, db } = this.#executor
    const { rows } = await sql<SealedRow & KeyRow>`
      select c.name, c.sealed, c.key_version, k.master_key_id, k.wrapped_key
      from rowhouse.credentials c
      join rowhouse.credential_keys k on k.tenant_id = c.tenant_id and k.key_version = c.key_version
      where c.tenant_id = ${tenantId} and c.name = ${checked}`.execute(db)
    const [row] = rows
    return row === undefined ? undefined : new Secret((await this.#open(row, await this.#unwrap(row))).toString())
  }

  /** The names of the tenant's credentials, without values. */
  async list(): Promise<CredentialInfo[]> {
    const { tenantId, db } = this.#executor
    const { rows } = await sql<{ name: string; key_version: string; created_at: Date; updated_at: Date }>`
      select name, key_version, created_at, updated_at from rowhouse.credentials
      where tenant_id = ${tenantId} order by name`.execute(db)
    return rows.map((row) => ({
      name: row.name,
      keyVersion: Number(row.key_version),
      createdAt: row.created_at,
      updatedAt: row.updated_at,
    }))
  }

  /**
   * Deletes a credential.
   *
   * SQL: `select rowhouse.delete_credential('openai/api-key')`
   *
   * @returns Whether there was one.
   */
  async delete(name: string): Promise<boolean> {
    const checked = parse(credentialName, name, 'invalid_credential', 'The name of the credential')
    const { rows } = await sql<{ deleted: boolean }>`
      select rowhouse.delete_credential(${checked}) as deleted`.execute(this.#executor.db)
    return rows[0]!.deleted
  }

  /**
   * Gives the tenant a new data key, encrypts its credentials with it, one after the other, and deletes the old keys.
   * Others read and write meanwhile. Interrupted, it is finished by calling it again.
   *
   * @returns The version of the new key, and how many credentials it encrypts now.
   */
  async rotateKey(): Promise<{ readonly keyVersion: number; readonly credentials: number }> {
    const current = await this.#latestRow()
    const keyVersion = Number(current?.key_version ?? 0) + 1
    await this.#addKey(keyVersion)
    const latest = await this.#latestKey()
    let credentials = 0
    do {
      for (const row of await this.#sealedBefore(latest.keyVersion)) {
        const value = await this.#open(row, await this.#unwrap(row))
        const sealed = encrypt(latest.key, value, this.#binding(row.name, latest.keyVersion))
        value.fill(0)
        const { rows } = await sql<{ done: boolean }>`
          select rowhouse.reseal_credential(${row.name}, ${row.sealed}, ${latest.keyVersion}, ${sealed}) as done`.execute(
          this.#executor.db,
        )
        if (rows[0]!.done) credentials++
      }
      // Somebody may have stored a credential with the old key meanwhile: then it is not dropped.
    } while (!(await this.#dropKeysBefore(latest.keyVersion)))
    return { keyVersion: latest.keyVersion, credentials }
  }

  async #latestKey(): Promise<{ keyVersion: number; key: Uint8Array }> {
    let row = await this.#latestRow()
    if (row === undefined) {
      await this.#addKey(1)
      row = (await this.#latestRow())!
    }
    return { keyVersion: Number(row.key_version), key: await this.#unwrap(row) }
  }

  async #latestRow(): Promise<KeyRow | undefined> {
    const { tenantId, db } = this.#executor
    const { rows } = await sql<KeyRow>`
      select key_version, master_key_id, wrapped_key from rowhouse.credential_keys
      where tenant_id = ${tenantId} order by key_version desc limit 1`.execute(db)
    return rows[0]
  }

  /** Adds a data key, unless another process was faster. */
  async #addKey(keyVersion: number): Promise<void> {
    const { masterKeyId, wrapped } = await this.#keys.create({ tenantId: this.#executor.tenantId, keyVersion })
    await sql`select rowhouse.add_credential_key(${keyVersion}, ${masterKeyId}, ${Buffer.from(wrapped)})`.execute(
      this.#executor.db,
    )
  }

  async #sealedBefore(keyVersion: number): Promise<(SealedRow & KeyRow)[]> {
    const { tenantId, db } = this.#executor
    const { rows } = await sql<SealedRow & KeyRow>`
      select c.name, c.sealed, c.key_version, k.master_key_id, k.wrapped_key
      from rowhouse.credentials c
      join rowhouse.credential_keys k on k.tenant_id = c.tenant_id and k.key_version = c.key_version
      where c.tenant_id = ${tenantId} and c.key_version < ${keyVersion} order by c.name`.execute(db)
    return rows
  }

  async #dropKeysBefore(keyVersion: number): Promise<boolean> {
    const { rows } = await sql<{ dropped: boolean }>`
      select rowhouse.drop_credential_keys(${keyVersion}) as dropped`.execute(this.#executor.db)
    return rows[0]!.dropped
  }

  #unwrap({ key_version, master_key_id: masterKeyId, wrapped_key: wrapped }: KeyRow): Promise<Uint8Array> {
    const context = { tenantId: this.#executor.tenantId, keyVersion: Number(key_version) }
    return this.#keys.unwrap({ masterKeyId, wrapped }, context)
  }

  async #open({ name, sealed, key_version }: SealedRow, key: Uint8Array): Promise<Buffer> {
    try {
      return decrypt(key, sealed, this.#binding(name, Number(key_version)))
    } catch {
      throw createRowhouseError('credential_unreadable', `The credential "${name}" can't be decrypted.`)
    }
  }

  /** What an encrypted value is bound to: it is of no use under another name or in another tenant. */
  #binding(name: string, keyVersion: number): string {
    return JSON.stringify(['rowhouse.credential/1', this.#executor.tenantId, name, keyVersion])
  }
}

interface KeyRow {
  readonly key_version: string
  readonly master_key_id: string
  readonly wrapped_key: Buffer
}

interface SealedRow {
  readonly name: string
  readonly sealed: Buffer
  readonly key_version: string
}
