import { createRowhouseError, type RowhouseError } from '../errors.ts'
import type { KeyContext, KeyProvider } from './key-provider.ts'

type EncryptionContext = Record<string, string>

/**
 * The part of a key management service that {@link masterKeysFromKms} uses, as AWS KMS has it: `new KMS()` of
 * `@aws-sdk/client-kms` fits as it is, and for another service these three calls are what to write.
 *
 * The encryption context is bound to what was encrypted: the service decrypts nothing without the same one. A refusal is
 * an error whose `name` says why, as AWS names them; `KMS_REFUSALS` lists those that trying again does not mend.
 */
export interface KmsClient {
  encrypt(request: {
    KeyId: string
    Plaintext: Uint8Array
    EncryptionContext: EncryptionContext
  }): Promise<{ readonly CiphertextBlob?: Uint8Array | undefined }>
  decrypt(request: {
    KeyId: string
    CiphertextBlob: Uint8Array
    EncryptionContext: EncryptionContext
  }): Promise<{ readonly Plaintext?: Uint8Array | undefined }>
  /** Encrypts by another key, inside the service. */
  reEncrypt(request: {
    CiphertextBlob: Uint8Array
    SourceKeyId: string
    SourceEncryptionContext: EncryptionContext
    DestinationKeyId: string
    DestinationEncryptionContext: EncryptionContext
  }): Promise<{ readonly CiphertextBlob?: Uint8Array | undefined }>
}

export interface KmsKeysOptions {
  readonly client: KmsClient
  /**
   * Id or ARN of the key that encrypts, and not an alias: to rotate, name another key here, then run
   * `rowhouse.credentialKeys.rewrap()`. What AWS rotates inside a key needs nothing.
   */
  readonly keyId: string
}

/** What the service says of a key that it has not, or not for this caller, and of data that it does not believe. */
const KMS_REFUSALS: Readonly<Record<string, 'master_key_missing' | 'credential_unreadable'>> = {
  AccessDeniedException: 'master_key_missing',
  DisabledException: 'master_key_missing',
  IncorrectKeyException: 'credential_unreadable',
  InvalidCiphertextException: 'credential_unreadable',
  InvalidKeyUsageException: 'master_key_missing',
  KMSInvalidStateException: 'master_key_missing',
  NotFoundException: 'master_key_missing',
  UnrecognizedClientException: 'master_key_missing',
}

/**
 * Master keys that never leave a key management service: it encrypts the data key of each tenant, with tenant and
 * version as the encryption context, and decrypts it again. Decrypted data keys stay in memory for up to five minutes,
 * of a thousand tenants at most, so that a credential that is read often costs no call.
 *
 * Errors of its calls: `key_service_unavailable` (503, retryable) when the service can't be reached or is overloaded,
 * `master_key_missing` when the key is disabled, deleted, or not for this caller, `credential_unreadable` when the data
 * key was encrypted for another tenant, or changed. Nothing is written then.
 *
 * @example
 * ```ts
 * import { KMS } from '@aws-sdk/client-kms'
 * import { createRowhouse, masterKeysFromKms } from 'rowhouse'
 *
 * const keys = masterKeysFromKms({ client: new KMS(), keyId: 'arn:aws:kms:eu-central-1:111122223333:key/1234abcd' })
 * const rowhouse = createRowhouse({ connectionString, credentials: { keys } })
 * ```
 */
export function masterKeysFromKms({ client, keyId }: KmsKeysOptions): KeyProvider {
  if (typeof keyId !== 'string' || keyId === '' || keyId.length > 500 || /(^|:)alias\//.test(keyId)) {
    throw createRowhouseError(
      'invalid_argument',
      'The id of a master key is an id or ARN of up to 500 characters, and no alias.',
      {
        hint: 'An alias may point to another key tomorrow, and what this one encrypted would not be found.',
      },
    )
  }
  return {
    currentKeyId: async () => keyId,
    wrap: async (dataKey, context) => {
      const { CiphertextBlob } = await ask(keyId, () =>
        client.encrypt({ KeyId: keyId, Plaintext: dataKey, EncryptionContext: encryptionContext(context) }),
      )
      return { masterKeyId: keyId, wrapped: present(CiphertextBlob) }
    },
    unwrap: async ({ masterKeyId, wrapped }, context) => {
      const { Plaintext } = await ask(masterKeyId, () =>
        client.decrypt({ KeyId: masterKeyId, CiphertextBlob: wrapped, EncryptionContext: encryptionContext(context) }),
      )
      return present(Plaintext)
    },
    rewrap: async ({ masterKeyId, wrapped }, context) => {
      const { CiphertextBlob } = await ask(masterKeyId, () =>
        client.reEncrypt({
          CiphertextBlob: wrapped,
          SourceKeyId: masterKeyId,
          SourceEncryptionContext: encryptionContext(context),
          DestinationKeyId: keyId,
          DestinationEncryptionContext: encryptionContext(context),
        }),
      )
      return { masterKeyId: keyId, wrapped: present(CiphertextBlob) }
    },
  }
}

/** Stands in the log of the service, beside who asked for the key. */
function encryptionContext({ tenantId, keyVersion }: KeyContext): EncryptionContext {
  return { 'rowhouse:tenant': tenantId, 'rowhouse:keyVersion': String(keyVersion) }
}

async function ask<Answer>(keyId: string, call: () => Promise<Answer>): Promise<Answer> {
  try {
    return await call()
  } catch (error) {
    throw explain(keyId, error)
  }
}

function explain(keyId: string, cause: unknown): RowhouseError {
  const name = cause instanceof Error ? cause.name : ''
  const refusal = KMS_REFUSALS[name]
  if (refusal === 'master_key_missing') {
    return createRowhouseError(refusal, `The key management service refuses the master key "${keyId}": ${name}.`, {
      cause,
      hint: 'Enable the key, and let this process encrypt, decrypt and re-encrypt with it.',
    })
  }
  if (refusal === 'credential_unreadable') {
    return createRowhouseError(
      refusal,
      `The master key "${keyId}" did not encrypt this data key for this tenant: ${name}.`,
      {
        cause,
      },
    )
  }
  return createRowhouseError('key_service_unavailable', 'The key management service did not answer.', { cause })
}

function present(bytes: Uint8Array | undefined): Uint8Array {
  if (bytes !== undefined && bytes.length > 0) return bytes
  throw createRowhouseError('key_service_unavailable', 'The key management service answered without a key.')
}
