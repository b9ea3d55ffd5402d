import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportJWK, exportSPKI, generateKeyPair, type JWTPayload, SignJWT } from 'jose'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { fromJwt, type JwtOptions } from '../../src/http/index.ts'

const ISSUER = 'https://login.example.com/'
const AUDIENCE = 'https://api.example.com'
const SECRET = 'a secret of thirty-two bytes or more'
const COMMON = { issuer: ISSUER, audience: AUDIENCE }
const now = () => Math.floor(Date.now() / 1000)
const CLAIMS = { iss: ISSUER, aud: AUDIENCE, sub: 'u_1', tenant_id: 'acme', exp: now() + 600 }

const secretOf = (text: string) => new TextEncoder().encode(text)
const signed = (claims: JWTPayload, key: Parameters<SignJWT['sign']>[0] = secretOf(SECRET), alg = 'HS256') =>
  new SignJWT(claims).setProtectedHeader({ alg, kid: 'k1' }).sign(key)

const bySecret = fromJwt({ ...COMMON, secret: SECRET, algorithms: ['HS256'] })

const resolve = (resolver: ReturnType<typeof fromJwt>, token?: string) =>
  resolver.resolve(
    new Request('https://x/', { headers: token === undefined ? {} : { authorization: `Bearer ${token}` } }),
    { ip: undefined, authenticateApiKey: () => Promise.reject(new Error('not asked')) },
  )

let keys: Awaited<ReturnType<typeof generateKeyPair>>
let jwksUrl: string
let served = { status: 200, fetches: 0 }
const issuerServer = createServer(async (_request, response) => {
  served.fetches++
  response.writeHead(served.status, { 'content-type': 'application/json' })
  response.end(JSON.stringify({ keys: [{ ...(await exportJWK(keys.publicKey)), kid: 'k1', alg: 'ES256' }] }))
})

beforeAll(async () => {
  keys = await generateKeyPair('ES256', { extractable: true })
  await new Promise<void>((resolve) => issuerServer.listen(0, '127.0.0.1', resolve))
  jwksUrl = `http://127.0.0.1:${(issuerServer.address() as AddressInfo).port}/jwks.json`
})
afterAll(() => {
  issuerServer.closeAllConnections()
  issuerServer.close()
})

test('a good token names tenant and user', async () => {
  expect(await resolve(bySecret, await signed(CLAIMS))).toMatchObject({
    tenantId: 'acme',
    userId: 'u_1',
    authenticated: true,
    source: 'jwt',
    claims: { aud: AUDIENCE },
  })
})

test('no token, or an API key in its place, is for somebody else to look at', async () => {
  expect(await resolve(bySecret)).toBeUndefined()
  expect(await resolve(bySecret, 'rh_free_acme_0123456789abcdef_x')).toBeUndefined()
  const request = new Request('https://x/', { headers: { authorization: 'Basic dXNlcjpwYXNz' } })
  expect(await bySecret.resolve(request, {} as never)).toBeUndefined()
})

test.each<[string, () => Promise<string>]>([
  ['another secret', () => signed(CLAIMS, secretOf('another secret of thirty-two bytes.'))],
  ['another issuer', () => signed({ ...CLAIMS, iss: 'https://evil.example/' })],
  ['no issuer', () => signed({ ...CLAIMS, iss: undefined as never })],
  ['another audience', () => signed({ ...CLAIMS, aud: 'https://other.example' })],
  ['an expiry that is past', () => signed({ ...CLAIMS, exp: now() - 10 })],
  ['no expiry', () => signed({ ...CLAIMS, exp: undefined as never })],
  ['a beginning that is to come', () => signed({ ...CLAIMS, nbf: now() + 60 })],
  ['another algorithm', () => signed(CLAIMS, secretOf(SECRET.repeat(2)), 'HS512')],
  ['no tenant', () => signed({ ...CLAIMS, tenant_id: undefined })],
  ['a tenant that is no text', () => signed({ ...CLAIMS, tenant_id: ['acme'] })],
  [
    'no signature',
    async () => {
      const [, payload] = (await signed(CLAIMS)).split('.')
      return `${Buffer.from('{"alg":"none"}').toString('base64url')}.${payload}.`
    },
  ],
  [
    'a changed claim',
    async () => {
      const [header, payload, signature] = (await signed(CLAIMS)).split('.')
      const claims = JSON.parse(Buffer.from(payload!, 'base64url').toString())
      return `${header}.${Buffer.from(JSON.stringify({ ...claims, tenant_id: 'globex' })).toString('base64url')}.${signature}`
    },
  ],
  ['nonsense', async () => 'nonsense'],
])('refused, with one message: a token with %s', async (_what, makeToken) => {
  await expect(resolve(bySecret, await makeToken())).rejects.toMatchObject({
    code: 'invalid_token',
    httpStatus: 401,
    message: 'The token is not valid.',
  })
})

test('clocks may differ a little', async () => {
  expect(await resolve(bySecret, await signed({ ...CLAIMS, exp: now() - 3 }))).toMatchObject({ tenantId: 'acme' })
  const strict = fromJwt({ ...COMMON, secret: SECRET, algorithms: ['HS256'], clockTolerance: 0 })
  await expect(resolve(strict, await signed({ ...CLAIMS, exp: now() - 3 }))).rejects.toMatchObject({
    code: 'invalid_token',
  })
})

test('the tenant may be in another claim, or deeper', async () => {
  const nested = fromJwt({
    ...COMMON,
    secret: SECRET,
    algorithms: ['HS256'],
    claim: (claims) => (claims.org as { id?: unknown } | undefined)?.id,
    userClaim: 'email',
  })
  const token = await signed({ ...CLAIMS, org: { id: 'globex' }, email: 'a@b.c' })
  expect(await resolve(nested, token)).toMatchObject({ tenantId: 'globex', userId: 'a@b.c' })
  await expect(resolve(bySecret, await signed({ ...CLAIMS, tenant_id: "x'; --" }))).rejects.toMatchObject({
    code: 'invalid_tenant_id',
  })
})

test('published keys are fetched once, and a token of somebody else is refused', async () => {
  served = { status: 200, fetches: 0 }
  const byUrl = fromJwt({ ...COMMON, jwksUrl, algorithms: ['ES256'] })
  const token = await signed(CLAIMS, keys.privateKey, 'ES256')
  for (let call = 0; call < 3; call++) expect(await resolve(byUrl, token)).toMatchObject({ tenantId: 'acme' })
  expect(served.fetches).toBe(1)
  const stranger = await generateKeyPair('ES256')
  await expect(resolve(byUrl, await signed(CLAIMS, stranger.privateKey, 'ES256'))).rejects.toMatchObject({
    code: 'invalid_token',
  })
  // The public key as a secret: the old trick, which needs an algorithm that was not allowed.
  const asSecret = secretOf(await exportSPKI(keys.publicKey))
  await expect(resolve(byUrl, await signed(CLAIMS, asSecret, 'HS256'))).rejects.toMatchObject({ code: 'invalid_token' })
})

test('an issuer that can not be reached is no fault of the token', async () => {
  served = { status: 500, fetches: 0 }
  const byUrl = fromJwt({ ...COMMON, jwksUrl, algorithms: ['ES256'] })
  const token = await signed(CLAIMS, keys.privateKey, 'ES256')
  await expect(resolve(byUrl, token)).rejects.toMatchObject({ code: 'keys_unavailable', httpStatus: 503 })
  const nowhere = fromJwt({ ...COMMON, jwksUrl: 'http://127.0.0.1:9/jwks.json', algorithms: ['ES256'] })
  await expect(resolve(nowhere, token)).rejects.toMatchObject({ code: 'keys_unavailable' })
})

test('keys that are given work without a network', async () => {
  const jwks = { keys: [{ ...(await exportJWK(keys.publicKey)), kid: 'k1', alg: 'ES256' }] }
  const byKeys = fromJwt({ ...COMMON, jwks, algorithms: ['ES256'] })
  expect(await resolve(byKeys, await signed(CLAIMS, keys.privateKey, 'ES256'))).toMatchObject({ tenantId: 'acme' })
})

test.each<[string, object, RegExp]>([
  ['a short secret', { secret: 'short', algorithms: ['HS256'] }, /as many bytes/],
  ['a secret for a longer digest', { secret: SECRET, algorithms: ['HS512'] }, /as many bytes/],
  ['a secret for a public-key algorithm', { secret: SECRET, algorithms: ['HS256', 'RS256'] }, /HS256/],
  ['published keys for a secret algorithm', { jwks: { keys: [] }, algorithms: ['ES256', 'HS256'] }, /HS256/],
  ['no algorithm', { secret: SECRET, algorithms: [] }, /algorithms of fromJwt is empty/],
])('refused when the program starts: %s', (_what, options, message) => {
  expect(() => fromJwt({ ...COMMON, ...options } as JwtOptions)).toThrow(message)
})
