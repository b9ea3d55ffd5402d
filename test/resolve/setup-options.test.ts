// Options come from variables of the environment, and those may not be set: what a resolver checks is then never left out,
// but the server does not start. None of these needs a database.
import { SignJWT } from 'jose'
import { describe, expect, test } from 'vitest'
import {
  firstOf,
  fromApiKey,
  fromDomain,
  fromFunction,
  fromHeader,
  fromJwt,
  fromPath,
  fromQuery,
  fromSubdomain,
  requireAgreement,
} from '../../src/http/index.ts'

const SECRET = 'a secret of thirty-two bytes or more'
const JWT = { issuer: 'https://login.example.com/', audience: 'api', secret: SECRET, algorithms: ['HS256'] }
const unset = process.env.ROWHOUSE_TEST_NEVER_SET

const making = (make: (...values: any[]) => unknown, ...values: unknown[]) => {
  try {
    make(...values)
    return 'made'
  } catch (error) {
    const { code, message } = error as { code?: unknown; message: string }
    expect(code, message).toBe('invalid_argument')
    // One sentence, and no value: it may be a secret.
    expect(message).toMatch(/^[^\n]+\.$/)
    expect(message).not.toContain(SECRET)
    return message
  }
}

describe('fromJwt', () => {
  test.each(Object.keys(JWT))('without %s, or with it undefined, empty or of another type, is refused', (name) => {
    const { [name]: _, ...without } = JWT as Record<string, unknown>
    expect(making(fromJwt, without)).toContain(name)
    expect(making(fromJwt, { ...JWT, [name]: unset })).toBe(
      `The option ${name} of fromJwt is undefined: set the variable that it comes from.`,
    )
    for (const wrong of ['', '  ', [], [unset], [''], null, 7, {}]) {
      expect(making(fromJwt, { ...JWT, [name]: wrong }), JSON.stringify(wrong)).toContain(`option ${name}`)
    }
  })

  test.each([
    ['no options', undefined, /fromJwt/],
    ['a name that is written wrong', { ...JWT, audiences: ['a'] }, /has no option audiences/],
    ['two sources of keys', { ...JWT, jwks: { keys: [] } }, /one of the options jwksUrl, jwks and secret/],
    ['a tolerance of no number', { ...JWT, clockTolerance: Number(unset) }, /clockTolerance .*is not a number/],
    ['a tolerance of milliseconds', { ...JWT, clockTolerance: 5000 }, /more than 300 seconds/],
    ['the algorithm none', { ...JWT, algorithms: ['none'] }, /is not an algorithm/],
    ['an empty claim', { ...JWT, claim: '' }, /option claim/],
    ['a short secret', { ...JWT, secret: 'short' }, /digests of its algorithm: 32, and this one 5/],
    ['an algorithm of published keys', { ...JWT, algorithms: ['RS256'] }, /A secret checks tokens of HS256/],
  ])('with %s is refused', (_what, options, message) => {
    expect(making(fromJwt, options)).toMatch(message)
  })

  test.each([unset, '', 'login.example.com', 'file:///etc/passwd', {}])('with keys at %s is refused', (jwksUrl) => {
    const { secret: _, ...common } = JWT
    expect(making(fromJwt, { ...common, jwksUrl, algorithms: ['RS256'] })).toContain('jwksUrl')
  })

  test('the control: with all of them it is made, and refuses the token of another issuer, and for another audience', async () => {
    const resolver = fromJwt(JWT as Parameters<typeof fromJwt>[0])
    const tokenOf = (issuer: string, audience: string) =>
      new SignJWT({ tenant_id: 'acme' })
        .setProtectedHeader({ alg: 'HS256' })
        .setIssuer(issuer)
        .setAudience(audience)
        .setExpirationTime('1h')
        .sign(new TextEncoder().encode(SECRET))
    const resolve = async (issuer: string, audience: string) => {
      const headers = { authorization: `Bearer ${await tokenOf(issuer, audience)}` }
      return resolver.resolve(new Request('https://x/', { headers }), {} as never)
    }
    expect(await resolve(JWT.issuer, JWT.audience)).toMatchObject({ tenantId: 'acme' })
    await expect(resolve('https://evil.example/', JWT.audience)).rejects.toMatchObject({ code: 'invalid_token' })
    await expect(resolve(JWT.issuer, 'other')).rejects.toMatchObject({ code: 'invalid_token' })
    for (const several of [{ issuer: ['a', 'b'] }, { audience: ['a', 'b'] }, { claim: undefined, clockTolerance: 0 }]) {
      expect(making(fromJwt, { ...JWT, ...several })).toBe('made')
    }
  })
})

test.each<[string, (...values: any[]) => unknown, unknown[], RegExp]>([
  ['fromApiKey with scopes that are not set', fromApiKey, [{ scopes: unset }], /scopes .* undefined/],
  ['fromApiKey with a scope that is not set', fromApiKey, [{ scopes: [unset] }], /scopes.0 .* undefined/],
  ['fromApiKey with one scope as text', fromApiKey, [{ scopes: 'a:b' }], /scopes .* not a list/],
  ['fromApiKey with an empty scope', fromApiKey, [{ scopes: [''] }], /scopes.0 .* is empty/],
  ['fromApiKey with a name that is written wrong', fromApiKey, [{ scope: ['a:b'] }], /has no option scope/],
  ['fromApiKey with a header that can not be', fromApiKey, [{ header: 'X API' }], /not the name of a header/],
  ['fromFunction without options', fromFunction, [() => undefined], /authenticated/],
  ['fromFunction that says yes as text', fromFunction, [() => undefined, { authenticated: 'false' }], /neither true/],
  ['fromFunction without a function', fromFunction, [unset, { authenticated: true }], /find/],
  ['fromSubdomain without a domain', fromSubdomain, [{ domain: unset }], /domain .* undefined/],
  ['fromSubdomain with an empty one', fromSubdomain, [{ domain: '' }], /domain .* is empty/],
  ['fromSubdomain with an address', fromSubdomain, [{ domain: 'https://example.com' }], /is a host name/],
  ['fromSubdomain with numbers', fromSubdomain, [{ domain: '127.0.0.1' }], /is a host name/],
  ['fromSubdomain with a pattern', fromSubdomain, [{ domain: '*.example.com' }], /is a host name/],
  ['fromDomain without a look-up', fromDomain, [{}], /lookup/],
  ['fromHeader with an empty name', fromHeader, [{ name: '' }], /name/],
  ['fromQuery with an empty name', fromQuery, [{ name: '' }], /name/],
  ['fromPath with null', fromPath, [{ prefix: null }], /prefix/],
  ['firstOf without resolvers', firstOf, [], /needs a resolver/],
  ['firstOf with one that is not there', firstOf, [fromApiKey(), unset], /Every argument of firstOf is a resolver/],
  ['requireAgreement with none', requireAgreement, [unset], /Every argument of requireAgreement is a resolver/],
  ['requireAgreement with a claim that is not there', requireAgreement, [fromApiKey(), unset], /is a resolver/],
])('%s is refused', (_what, make, values, message) => {
  expect(making(make, ...values)).toMatch(message)
})

test('what has a default may be undefined', () => {
  expect(making(fromHeader, { name: undefined })).toBe('made')
  expect(making(fromPath, { prefix: undefined })).toBe('made')
  expect(making(fromApiKey, { header: undefined })).toBe('made')
  expect(making(fromSubdomain, { domain: 'example.com', ignore: undefined })).toBe('made')
})
