import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createRowhouseError } from '../errors.ts'

/** What a data key belongs to. A provider binds the encrypted key to it, so that it is of no use anywhere else. */
export interface KeyContext {
  readonly tenantId: string
  readonly keyVersion: number
}

/** A data key, encrypted by a master key. */
export interface WrappedKey {
  readonly masterKeyId: string
  readonly wrapped: Uint8Array
}

/**
 * Encrypts the data keys of tenants with master keys, which only it has: {@link masterKeysFromEnvironment},
 * {@link masterKeysFromFile}, {@link masterKeysFromKms} for a key management service, or one of your own. The context is
 * to be bound to what is encrypted, as associated data: what was encrypted for one tenant is refused for another.
 *
 * A {@link RowhouseError} that it throws reaches the caller as it is; anything else that `unwrap` throws becomes
 * `credential_unreadable`.
 *
 * @example
 * ```ts
 * import type { KeyProvider } from 'rowhouse'
 *
 * declare const vault: {
 *   seal(key: string, bytes: Uint8Array, boundTo: string): Promise<Uint8Array>
 *   open(key: string, bytes: Uint8Array, boundTo: string): Promise<Uint8Array>
 * }
 * const current = 'rowhouse-2026'
 *
 * export const keys: KeyProvider = {
 *   currentKeyId: async () => current,
 *   wrap: async (dataKey, { tenantId, keyVersion }) => ({
 *     masterKeyId: current,
 *     wrapped: await vault.seal(current, dataKey, `${tenantId}:${keyVersion}`),
 *   }),
 *   unwrap: ({ masterKeyId, wrapped }, { tenantId, keyVersion }) =>
 *     vault.open(masterKeyId, wrapped, `${tenantId}:${keyVersion}`),
 * }
 * ```
 */
export interface KeyProvider {
  /** The id of the master key that `wrap` uses now. */
  currentKeyId(): Promise<string>
  /** Encrypts a data key of 32 bytes. */
  wrap(dataKey: Uint8Array, context: KeyContext): Promise<WrappedKey>
  /** Decrypts it, with whichever master key encrypted it. Throws when it was encrypted for another context. */
  unwrap(wrapped: WrappedKey, context: KeyContext): Promise<Uint8Array>
  /** Encrypts it by the current master key, where that can be done without decrypting it here. Default: both of the above. */
  rewrap?(wrapped: WrappedKey, context: KeyContext): Promise<WrappedKey>
}

/**
 * Master keys from an environment variable: `id:base64` for each, 32 bytes, separated by spaces or commas. The first one
 * encrypts; the others decrypt what they encrypted before a rotation.
 *
 * @example
 * ```ts
 * // ROWHOUSE_MASTER_KEYS="2026-11:$(openssl rand -base64 32)"
 * const rowhouse = createRowhouse({ connectionString, credentials: { keys: masterKeysFromEnvironment() } })
 * ```
 */
export function masterKeysFromEnvironment(variable = 'ROWHOUSE_MASTER_KEYS'): KeyProvider {
  return localKeys(async () => process.env[variable] ?? '', `The environment variable ${variable}`)
}

/** Master keys from a file: a line `id:base64` for each. Read again each time that a key is needed, so it may change. */
export function masterKeysFromFile(path: string): KeyProvider {
  return localKeys(() => readFile(path, 'utf8'), `The file ${path}`)
}

function localKeys(read: () => Promise<string>, where: string): KeyProvider {
  const load = async (): Promise<Map<string, Buffer>> => {
    const entries = (await read()).split(/[\s,]+/).filter((entry) => entry !== '')
    const keys = new Map<string, Buffer>()
    for (const [index, entry] of entries.entries()) {
      const [, id, base64] = /^([\w.-]{1,100}):([A-Za-z0-9+/]{43}=)$/.exec(entry) ?? []
      // The entry may hold a key, so the message does not repeat it.
      if (id === undefined || base64 === undefined) {
        throw createRowhouseError(
          'master_key_missing',
          `${where}: key ${index + 1} is not of the form id:base64 with 32 bytes.`,
        )
      }
      keys.set(id, Buffer.from(base64, 'base64'))
    }
    if (keys.size === 0) throw createRowhouseError('master_key_missing', `${where} holds no master key.`)
    return keys
  }
  return {
    currentKeyId: async () => (await load()).keys().next().value!,
    wrap: async (dataKey, context) => {
      const [masterKeyId, masterKey] = (await load()).entries().next().value!
      return { masterKeyId, wrapped: encrypt(masterKey, dataKey, keyBinding(context)) }
    },
    unwrap: async ({ masterKeyId, wrapped }, context) => {
      const masterKey = (await load()).get(masterKeyId)
      if (masterKey === undefined)
        throw createRowhouseError('master_key_missing', `${where} has no master key "${masterKeyId}".`)
      return decrypt(masterKey, wrapped, keyBinding(context))
    },
  }
}

function keyBinding({ tenantId, keyVersion }: KeyContext): string {
  return JSON.stringify(['rowhouse.credential-key/1', tenantId, keyVersion])
}

const NONCE_BYTES = 12
const TAG_BYTES = 16

/** AES-256-GCM with a new nonce: nonce, ciphertext, tag. Only what is bound to the same text decrypts it again. */
export function encrypt(key: Uint8Array, plaintext: Uint8Array, boundTo: string): Buffer {
  const nonce = randomBytes(NONCE_BYTES)
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES }).setAAD(Buffer.from(boundTo))
  return Buffer.concat([nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()])
}

/** Throws when key, bound text or any bit of what was encrypted differs. */
export function decrypt(key: Uint8Array, sealed: Uint8Array, boundTo: string): Buffer {
  const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, NONCE_BYTES), { authTagLength: TAG_BYTES })
    .setAAD(Buffer.from(boundTo))
    .setAuthTag(sealed.subarray(-TAG_BYTES))
  return Buffer.concat([decipher.update(sealed.subarray(NONCE_BYTES, -TAG_BYTES)), decipher.final()])
}
