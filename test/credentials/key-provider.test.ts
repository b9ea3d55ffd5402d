import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { masterKeysFromEnvironment, masterKeysFromFile } from '../../src/index.ts'

const key = (id: string) => `${id}:${randomBytes(32).toString('base64')}`
const CONTEXT = { tenantId: 'acme', keyVersion: 1 }
const DATA_KEY = randomBytes(32)
let folder: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rowhouse-keys-'))
})
afterAll(() => rm(folder, { recursive: true }))

test('a data key is encrypted by the first master key and decrypted by any', async () => {
  const [one, other] = [key('one'), key('other')]
  process.env.TEST_PROVIDER_KEYS = `${one}\n${other}\n`
  const provider = masterKeysFromEnvironment('TEST_PROVIDER_KEYS')
  expect(await provider.currentKeyId()).toBe('one')
  const wrapped = await provider.wrap(DATA_KEY, CONTEXT)
  expect(wrapped.masterKeyId).toBe('one')
  process.env.TEST_PROVIDER_KEYS = `${other},${one}`
  expect(await provider.currentKeyId()).toBe('other')
  expect(Buffer.from(await provider.unwrap(wrapped, CONTEXT))).toEqual(DATA_KEY)
  expect((await provider.wrap(DATA_KEY, CONTEXT)).masterKeyId).toBe('other')
})

test('a file is read again, so keys can be rotated without a restart', async () => {
  const path = join(folder, 'keys')
  const provider = masterKeysFromFile(path)
  await expect(provider.currentKeyId()).rejects.toThrow(/ENOENT/)
  await writeFile(path, key('a'))
  expect(await provider.currentKeyId()).toBe('a')
  await writeFile(path, `${key('b')}\n`)
  expect(await provider.currentKeyId()).toBe('b')
})

test('an encrypted data key is bound to its tenant and version', async () => {
  process.env.TEST_PROVIDER_KEYS = key('one')
  const provider = masterKeysFromEnvironment('TEST_PROVIDER_KEYS')
  const wrapped = await provider.wrap(DATA_KEY, CONTEXT)
  await expect(provider.unwrap(wrapped, { ...CONTEXT, tenantId: 'globex' })).rejects.toThrow()
  await expect(provider.unwrap(wrapped, { ...CONTEXT, keyVersion: 2 })).rejects.toThrow()
  expect(Buffer.from(await provider.unwrap(wrapped, CONTEXT))).toEqual(DATA_KEY)
})

test.each([
  ['nothing', '', /holds no master key/],
  ['no id', randomBytes(32).toString('base64'), /key 1 is not of the form/],
  ['too few bytes', `a:${randomBytes(16).toString('base64')}`, /key 1 is not of the form/],
  ['too many bytes', `a:${randomBytes(48).toString('base64')}`, /key 1 is not of the form/],
  ['no base64', `a:${'!'.repeat(44)}`, /key 1 is not of the form/],
])('refused, without repeating it: %s', async (_what, text, message) => {
  process.env.TEST_PROVIDER_KEYS = text
  const error = await masterKeysFromEnvironment('TEST_PROVIDER_KEYS')
    .currentKeyId()
    .catch((reason: unknown) => reason)
  expect(error).toMatchObject({ code: 'master_key_missing', message: expect.stringMatching(message) })
  if (text !== '') expect((error as Error).message).not.toContain(text)
})
