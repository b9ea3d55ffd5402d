// A key management service: a process of its own that encrypts and decrypts by keys which never leave it. It answers as
// AWS KMS does, of which it stands for Encrypt, Decrypt, ReEncrypt, CreateKey, DisableKey and EnableKey.
import { createCipheriv, createDecipheriv, randomBytes, randomUUID } from 'node:crypto'
import { createServer } from 'node:http'
import { text } from 'node:stream/consumers'

interface Request {
  readonly KeyId: string
  readonly SourceKeyId: string
  readonly DestinationKeyId: string
  readonly Plaintext: string
  readonly CiphertextBlob: string
  readonly EncryptionContext: Readonly<Record<string, string>>
  readonly SourceEncryptionContext: Readonly<Record<string, string>>
  readonly DestinationEncryptionContext: Readonly<Record<string, string>>
}

const keys = new Map<string, { readonly key: Buffer; enabled: boolean }>()
const calls: Record<string, number> = {}

function refuse(name: string): never {
  throw Object.assign(new Error(name), { name })
}

function find(keyId: string) {
  const found = keys.get(keyId) ?? refuse('NotFoundException')
  return found.enabled ? found.key : refuse('DisabledException')
}

/** Key, nonce, ciphertext and tag; the context is associated data. */
function encrypt(keyId: string, plaintext: Buffer, context: Readonly<Record<string, string>>): string {
  const nonce = randomBytes(12)
  const cipher = createCipheriv('aes-256-gcm', find(keyId), nonce).setAAD(Buffer.from(JSON.stringify(context)))
  const parts = [Buffer.from(keyId), nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]
  return Buffer.concat(parts).toString('base64')
}

function decrypt(keyId: string, blob: string, context: Readonly<Record<string, string>>): Buffer {
  const key = find(keyId)
  const bytes = Buffer.from(blob, 'base64')
  if (bytes.subarray(0, 36).toString() !== keyId) refuse('IncorrectKeyException')
  try {
    const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(36, 48))
      .setAAD(Buffer.from(JSON.stringify(context)))
      .setAuthTag(bytes.subarray(-16))
    return Buffer.concat([decipher.update(bytes.subarray(48, -16)), decipher.final()])
  } catch {
    return refuse('InvalidCiphertextException')
  }
}

const actions: Readonly<Record<string, (request: Request) => object>> = {
  CreateKey: () => {
    const KeyId = randomUUID()
    keys.set(KeyId, { key: randomBytes(32), enabled: true })
    return { KeyId }
  },
  DisableKey: ({ KeyId }) => Object.assign(keys.get(KeyId)!, { enabled: false }) && {},
  EnableKey: ({ KeyId }) => Object.assign(keys.get(KeyId)!, { enabled: true }) && {},
  Encrypt: ({ KeyId, Plaintext, EncryptionContext }) => ({
    KeyId,
    CiphertextBlob: encrypt(KeyId, Buffer.from(Plaintext, 'base64'), EncryptionContext),
  }),
  Decrypt: ({ KeyId, CiphertextBlob, EncryptionContext }) => ({
    KeyId,
    Plaintext: decrypt(KeyId, CiphertextBlob, EncryptionContext).toString('base64'),
  }),
  ReEncrypt: (request) => ({
    KeyId: request.DestinationKeyId,
    CiphertextBlob: encrypt(
      request.DestinationKeyId,
      decrypt(request.SourceKeyId, request.CiphertextBlob, request.SourceEncryptionContext),
      request.DestinationEncryptionContext,
    ),
  }),
  Calls: () => ({ ...calls }),
}

const server = createServer(async (request, response) => {
  const action = request.url!.slice(1)
  try {
    const body = JSON.parse(await text(request)) as Request
    const answer = actions[action]!(body)
    calls[action] = (calls[action] ?? 0) + 1
    response.end(JSON.stringify(answer))
  } catch (error) {
    response.writeHead(400).end(JSON.stringify({ __type: (error as Error).name }))
  }
})
server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => {
  process.send!((server.address() as { port: number }).port)
})
process.on('disconnect', () => process.exit())
