import {
  createLocalJWKSet,
  createRemoteJWKSet,
  type JSONWebKeySet,
  type JWTPayload,
  type JWTVerifyGetKey,
  jwtVerify,
} from 'jose'
import * as z from 'zod'
import { parseTenantId } from '../context/context-options.ts'
import { createRowhouseError } from '../errors.ts'
import { bearerToken } from './bearer-token.ts'
import type { TenantResolver } from './resolver.ts'
import { func, parseSetupOptions, text } from './setup-options.ts'

const ASYMMETRIC = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA'] as const
type AsymmetricAlgorithm = (typeof ASYMMETRIC)[number]

/** With the bytes of their digests. */
const SECRET_BYTES = { HS256: 32, HS384: 48, HS512: 64 }
type SecretAlgorithm = keyof typeof SECRET_BYTES

interface CommonJwtOptions {
  /** Who must have made the token (`iss`): one of these. */
  readonly issuer: string | string[]
  /** For whom it must have been made (`aud`): one of these. */
  readonly audience: string | string[]
  /** The claim that names the tenant, or a function that finds it. Default `tenant_id`. */
  readonly claim?: string | ((claims: Readonly<Record<string, unknown>>) => unknown) | undefined
  /** The claim that names the user. Default `sub`. */
  readonly userClaim?: string | undefined
  /** Seconds by which clocks may differ: up to 300. Default 5. */
  readonly clockTolerance?: number | undefined
}

/** How tokens are checked. The algorithms are yours to say, never the token's. */
export type JwtOptions = CommonJwtOptions &
  (
    | {
        /** Where the issuer publishes its keys: `https://issuer/.well-known/jwks.json`. Fetched when needed, and cached. */
        readonly jwksUrl: string | URL
        readonly algorithms: readonly AsymmetricAlgorithm[]
      }
    | { readonly jwks: JSONWebKeySet; readonly algorithms: readonly AsymmetricAlgorithm[] }
    | {
        /** At least 32 bytes, shared with who makes the tokens. */
        readonly secret: string | Uint8Array
        readonly algorithms: readonly SecretAlgorithm[]
      }
  )

const names = z.union([text, z.array(text).min(1)], 'is neither text nor a list of texts, or one is empty')

const commonOptions = {
  issuer: names,
  audience: names,
  algorithms: z
    .array(
      z.enum([...ASYMMETRIC, 'HS256', 'HS384', 'HS512'], 'is not an algorithm that tokens are checked with'),
      'is not a list of algorithms',
    )
    .min(1, 'is empty'),
  claim: z.union([text, func], 'is neither the name of a claim nor a function').optional(),
  userClaim: text.optional(),
  clockTolerance: z.number('is not a number').min(0, 'is negative').max(300, 'is more than 300 seconds').optional(),
}

const keyOptions = {
  jwksUrl: z.custom((value) => isWebAddress(value), 'is not a URL'),
  jwks: z.custom((value) => Array.isArray((value as JSONWebKeySet | null)?.keys), 'is not a set of keys'),
  secret: z.union([text, z.instanceof(Uint8Array)], 'is neither text nor bytes, or empty'),
}

/**
 * A claim of a JSON Web Token in `Authorization: Bearer`, checked by `jose`: signature, issuer, audience, expiry. A token
 * that fails is an error, whatever else the request contains. Options that are missing or undefined, for example because
 * an environment variable is not set, are an error now: `invalid_argument`.
 *
 * @example
 * ```ts
 * import { fromJwt } from 'rowhouse/http'
 *
 * const resolve = fromJwt({
 *   jwksUrl: 'https://login.example.com/.well-known/jwks.json',
 *   issuer: 'https://login.example.com/',
 *   audience: 'https://api.example.com',
 *   algorithms: ['RS256'],
 *   claim: 'org_id',
 * })
 * ```
 */
export function fromJwt(options: JwtOptions): TenantResolver {
  assertJwtOptions(options)
  const { issuer, audience, claim = 'tenant_id', userClaim = 'sub', clockTolerance = 5 } = options
  const getKey = keysOf(options)
  const algorithms = [...options.algorithms]
  const readTenant = typeof claim === 'function' ? claim : (claims: JWTPayload) => claims[claim]
  return {
    unauthenticated: [],
    authenticates: true,
    resolve: async (request) => {
      const token = bearerToken(request)
      if (token === undefined || token.startsWith('rh_')) return undefined
      let claims: JWTPayload
      try {
        // Without an expiry a stolen token would be good for ever.
        const requirements = { issuer, audience, algorithms, clockTolerance, requiredClaims: ['exp'] }
        claims = (await jwtVerify(token, getKey, requirements)).payload
      } catch (cause) {
        if (isUnavailable(cause)) {
          throw createRowhouseError('keys_unavailable', 'The keys that tokens are checked with could not be fetched.', {
            cause,
          })
        }
        throw createRowhouseError('invalid_token', 'The token is not valid.', { cause })
      }
      const tenantId = readTenant(claims)
      if (typeof tenantId !== 'string') {
        throw createRowhouseError('invalid_token', 'The token is not valid.', {
          cause: new Error('The token names no tenant.'),
        })
      }
      const userId = claims[userClaim]
      return {
        tenantId: parseTenantId(tenantId),
        authenticated: true,
        source: 'jwt',
        userId: typeof userId === 'string' ? userId : undefined,
        claims,
      }
    },
  }
}

function assertJwtOptions(options: JwtOptions): void {
  const given = Object.keys(keyOptions).filter((name) => name in Object(options)) as (keyof typeof keyOptions)[]
  const [source] = given
  if (source === undefined || given.length > 1) {
    throw createRowhouseError('invalid_argument', 'fromJwt needs one of the options jwksUrl, jwks and secret.')
  }
  parseSetupOptions('fromJwt', z.strictObject({ ...commonOptions, [source]: keyOptions[source] }), options)
}

function isWebAddress(value: unknown): boolean {
  const url = typeof value === 'string' || value instanceof URL ? URL.parse(String(value)) : null
  return url?.protocol === 'https:' || url?.protocol === 'http:'
}

/** Keys and algorithms that don't belong together are refused now: a public key that is taken for a secret is no secret. */
function keysOf(options: JwtOptions): JWTVerifyGetKey {
  const { algorithms } = options
  const symmetric = algorithms.filter((algorithm) => algorithm.startsWith('HS')) as SecretAlgorithm[]
  if ('secret' in options) {
    const secret = typeof options.secret === 'string' ? new TextEncoder().encode(options.secret) : options.secret
    if (symmetric.length < algorithms.length) {
      throw createRowhouseError('invalid_argument', 'A secret checks tokens of HS256, HS384 or HS512.')
    }
    const needed = Math.max(...symmetric.map((algorithm) => SECRET_BYTES[algorithm]))
    if (secret.length < needed) {
      throw createRowhouseError(
        'invalid_argument',
        `A secret has at least as many bytes as the digests of its algorithm: ${needed}, and this one ${secret.length}.`,
      )
    }
    return async () => secret
  }
  if (symmetric.length > 0) {
    throw createRowhouseError('invalid_argument', `Published keys don't check tokens of ${symmetric.join(', ')}.`)
  }
  return 'jwks' in options ? createLocalJWKSet(options.jwks) : createRemoteJWKSet(new URL(options.jwksUrl))
}

/** A failure of the issuer, not of the token. */
function isUnavailable(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code
  return (
    code === 'ERR_JWKS_TIMEOUT' ||
    code === 'ERR_JWKS_INVALID' ||
    code === 'ERR_JOSE_GENERIC' ||
    error instanceof TypeError
  )
}
