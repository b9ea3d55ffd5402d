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
 * Encrypts the data keys of tenants with master keys, which only it has. Implement it with the key management service of
 * your cloud: `wrap` is its encrypt, `unwrap` its decrypt, and the context its encryption context or associated data.
 *
 * @example
 * ```ts
 * import type { KeyProvider } from 'rowhouse'
 *
 * declare const kms: {
 *   encrypt(request: object): Promise<{ KeyId: string; CiphertextBlob: Uint8Array }>
 *   decrypt(request: object): Promise<{ Plaintext: Uint8Array }>
 * }
 * const KeyId = 'alias/rowhouse'
 *
 * export const keys: KeyProvider = {
 *   currentKeyId: async () => KeyId,
 *   wrap: async (Plaintext, { tenantId, keyVersion }) => {
 *     const EncryptionContext = { tenantId, keyVersion: String(keyVersion) }
 *     const { CiphertextBlob } = await kms.encrypt({ KeyId, Plaintext, EncryptionContext })
 *     return { masterKeyId: KeyId, wrapped: CiphertextBlob }
 *   },
 *   unwrap: async ({ masterKeyId, wrapped }, { tenantId, keyVersion }) => {
 *     const EncryptionContext = { tenantId, keyVersion: String(keyVersion) }
 *     return (await kms.decrypt({ KeyId: masterKeyId, CiphertextBlob: wrapped, EncryptionContext })).Plaintext
 *   },
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
