import type { KyselyPlugin, LogConfig } from 'kysely'
import pg from 'pg'
import * as z from 'zod'
import type { AuditBufferOptions } from '../audit/audit-buffer.ts'
import type { KeyProvider } from '../credentials/key-provider.ts'
import { createRowhouseError } from '../errors.ts'
import type { TokenCounter } from '../prompt/count-tokens.ts'
import type { SettingsDefinition } from '../settings/define-settings.ts'
import { parseOptions } from './context-options.ts'
import type { SealKey } from './seal.ts'

/** A login of its own: a connection string, or a pool that the application made and ends. */
export interface ConnectionOptions {
  /** `postgres://user:password@host:port/database`. */
  readonly connectionString?: string | undefined
  /** A pool of `pg` 8.23 or later. */
  readonly pool?: pg.Pool | undefined
  /** Further options of the pool that is made for `connectionString`, for example `{ max: 20 }`. */
  readonly poolOptions?: pg.PoolConfig | undefined
}

/** Another database that tenants may be in. */
export interface PlacementOptions extends ConnectionOptions {
  /** A login of its own for the calls across tenants. Default: the same login. */
  readonly admin?: ConnectionOptions | undefined
}

/** Options of `createRowhouse`. */
export interface RowhouseOptions extends ConnectionOptions {
  /**
   * Sends statements that are issued at the same time (`Promise.all`) without waiting for each other. Some poolers
   * (Supavisor in transaction mode) hang on it. A given pool must have been made with pg's `pipeline: true`.
   */
  readonly pipeline?: boolean | undefined
  /** The role of tenants' transactions. `null`: the login itself is restricted. Default `rowhouse_app`. */
  readonly role?: string | null | undefined
  /**
   * The key of sealed contexts: 32 to 64 random bytes that the database knows (`rowhouse.seals.addKey`). With it every
   * transaction proves its tenant, and a database that requires seals believes no other.
   */
  readonly seal?: SealKey | undefined
  /**
   * Where seals are required, tenants' transactions are refused on a login that could become an operator or the owner of
   * a protected table, because injected SQL could, too. True for scripts of operators, which serve no requests.
   */
  readonly allowPrivilegedLogin?: boolean | undefined
  /** A login of its own for the calls across tenants (`rowhouse.tenants` and others). Default: the same login. */
  readonly admin?: ConnectionOptions | undefined
  /**
   * Other databases that tenants may be in, by name: `{ eu: { connectionString } }`, each with rowhouse and the tables of
   * the application. `rowhouse.tenants.move(id, 'eu')` brings a tenant there. `home` is the one that this rowhouse is for.
   * With `pipeline`, the first transaction of a process after a move fails with `TenantMovedError`; the next one arrives.
   */
  readonly placements?: Readonly<Record<string, PlacementOptions>> | undefined
  /** As in Kysely. */
  readonly log?: LogConfig | undefined
  /** As in Kysely. */
  readonly plugins?: readonly KyselyPlugin[] | undefined
  /**
   * Adds the tenant to the where clauses of queries on tenant tables, which lets Postgres plan for the tenant. The
   * policies hold without it. Default true.
   */
  readonly predicate?: boolean | undefined
  /** How `audit.append(entry, { buffered: true })` collects entries. */
  readonly auditBuffer?: AuditBufferOptions | undefined
  /** What the settings of tenants look like: `defineSettings(schema, { tiers })`. Default: any JSON object. */
  readonly settings?: SettingsDefinition<any> | undefined
  /**
   * How many tokens a text is for your model: for messages of sessions that are appended without a `tokenCount`, and for
   * prompts. Default: estimates.
   */
  readonly countTokens?: TokenCounter | undefined
  /**
   * The master keys of the credentials of tenants, and for how many milliseconds a decrypted data key stays in memory:
   * default five minutes, 0 for none. A master key that is disabled can be used so long.
   */
  readonly credentials?: { readonly keys: KeyProvider; readonly cacheMs?: number | undefined } | undefined
  /**
   * Subscriptions to channels. `pollMs`: how often they look for messages without having been told of any, which matters
   * where `listen` doesn't work (a pooler in transaction mode) and in the seconds after a connection was lost unnoticed;
   * from 50 to 3,600,000. Default 30,000.
   */
  readonly channels?: { readonly pollMs?: number | undefined } | undefined
}

const pool = z.custom<pg.Pool>(
  (value) => hasMethod(value, 'connect') && hasMethod(value, 'on') && 'options' in value,
  'is not a pool of pg',
)
const connection = z.strictObject({
  connectionString: z
    .string()
    .regex(/^(postgres(ql)?|socket):\/\/|^\//, 'is not of the form postgres://user:password@host:port/database')
    .optional(),
  pool: pool.optional(),
  poolOptions: z.record(z.string(), z.any()).optional(),
})
const placementName = z
  .string()
  .regex(
    /^(?!home$)[a-z][a-z0-9_-]{0,62}$/,
    'is named by 1 to 63 small letters, digits, underscores or hyphens, and not home',
  )
const rowhouseOptions = connection.extend({
  placements: z.record(placementName, connection.extend({ admin: connection.optional() })).optional(),
  pipeline: z.boolean().optional(),
  role: z.string().min(1).nullable().optional(),
  seal: z.union([z.string(), z.instanceof(Uint8Array)]).optional(),
  allowPrivilegedLogin: z.boolean().optional(),
  admin: connection.optional(),
  log: z.custom((value) => typeof value === 'function' || Array.isArray(value), 'is not a log of Kysely').optional(),
  plugins: z
    .array(z.custom<KyselyPlugin>((value) => hasMethod(value, 'transformQuery'), 'is not a plugin of Kysely'))
    .optional(),
  predicate: z.boolean().optional(),
  auditBuffer: z
    .strictObject({
      maxDelayMs: z.int().min(1).max(60_000).optional(),
      capacity: z.int().min(1).max(1_000_000).optional(),
      onLost: z.custom((value) => typeof value === 'function', 'is not a function').optional(),
    })
    .optional(),
  settings: z
    .custom<SettingsDefinition>((value) => hasMethod(value, 'complete'), 'is not made by defineSettings')
    .optional(),
  countTokens: z.custom<TokenCounter>((value) => typeof value === 'function', 'is not a function').optional(),
  credentials: z
    .strictObject({
      keys: z.custom<KeyProvider>(
        (value) => hasMethod(value, 'wrap') && hasMethod(value, 'unwrap') && hasMethod(value, 'currentKeyId'),
        'is not a provider of master keys',
      ),
      cacheMs: z.int().min(0).max(3_600_000).optional(),
    })
    .optional(),
  channels: z.strictObject({ pollMs: z.int().min(50).max(3_600_000).optional() }).optional(),
})

/** Checks the options; one sentence says what is wrong. */
export function parseRowhouseOptions(options: RowhouseOptions): RowhouseOptions {
  parseOptions(rowhouseOptions, options)
  assertOneConnection(options, 'createRowhouse')
  if (options.admin !== undefined) assertOneConnection(options.admin, 'The option admin')
  for (const [name, placement] of Object.entries(options.placements ?? {})) {
    assertOneConnection(placement, `The placement ${name}`)
    if (placement.admin !== undefined) assertOneConnection(placement.admin, `The option admin of placement ${name}`)
  }
  const { pool: given, pipeline } = options
  if (given !== undefined && pipeline === true && !(given.options as { pipeline?: boolean }).pipeline) {
    throw createRowhouseError('invalid_argument', 'The option pipeline needs a pool made with pipeline: true.')
  }
  return options
}

function hasMethod(value: unknown, name: string): value is object {
  return typeof value === 'object' && value !== null && typeof (value as Record<string, unknown>)[name] === 'function'
}

function assertOneConnection({ connectionString, pool, poolOptions }: ConnectionOptions, where: string): void {
  if ((connectionString === undefined) === (pool === undefined)) {
    throw createRowhouseError('invalid_argument', `${where} needs either connectionString or pool.`)
  }
  if (pool !== undefined && poolOptions !== undefined) {
    throw createRowhouseError('invalid_argument', `${where}: poolOptions are for connectionString; configure the pool.`)
  }
}

/** All connections in use for this long is an error, instead of waiting for ever. */
const CONNECTION_TIMEOUT_MS = 10_000

/** The given pool, or a new one. */
export function openPool(options: ConnectionOptions, pipeline: boolean): { pool: pg.Pool; owned: boolean } {
  if (options.pool !== undefined) return { pool: options.pool, owned: false }
  const { connectionString, poolOptions } = options
  const config = {
    connectionTimeoutMillis: CONNECTION_TIMEOUT_MS,
    ...poolOptions,
    connectionString,
    pipeline,
  }
  return { pool: new pg.Pool(config as pg.PoolConfig), owned: true }
}
