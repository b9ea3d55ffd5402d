import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'

/** Whether a call for this key is admitted. */
export type Decide = (key: number) => Promise<boolean>

interface OtherLimitersOptions {
  readonly postgres: string
  readonly limit: number
  readonly windowMs: number
}

interface OtherLimiters {
  readonly limiters: Readonly<Record<string, Decide>>
  /** What could not be measured, and what to do about it. */
  readonly notes: readonly string[]
  readonly stop: () => Promise<void>
}

/** The parts of the packages in test/bench/others that are used here. */
interface FlexibleLimiter {
  consume(key: string): Promise<unknown>
}
type FlexibleClass = new (options: object, ready?: (error?: Error) => void) => FlexibleLimiter
interface Redis {
  connect(): Promise<void>
  ping(): Promise<unknown>
  defineCommand(name: string, options: { numberOfKeys: number; lua: string }): void
  disconnect(): void
}
interface SortedSetCommand {
  slidingWindow(key: string, member: string, windowMs: number, limit: number): Promise<number>
}

/** The exact window of the sorted-set recipe: drop what has left, count, add. */
const SORTED_SET_WINDOW = `
  local time = redis.call('time')
  local now = time[1] * 1000000 + time[2]
  redis.call('zremrangebyscore', KEYS[1], '-inf', now - ARGV[2] * 1000)
  if redis.call('zcard', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end
  redis.call('zadd', KEYS[1], now, ARGV[1])
  redis.call('pexpire', KEYS[1], ARGV[2])
  return 1`

/** Starts what the limiter is compared with, as far as it is installed. */
export async function otherLimiters({ postgres, limit, windowMs }: OtherLimitersOptions): Promise<OtherLimiters> {
  const limiters: Record<string, Decide> = {}
  const notes: string[] = []
  const stops: (() => unknown)[] = []
  const stop = async () => {
    for (const step of stops.reverse()) await step()
  }
  const packages = loadPackages()
  if (packages === undefined) {
    notes.push('Not measured: rate-limiter-flexible, Redis. Run: npm run bench:install')
    return { limiters, notes, stop }
  }
  const { RateLimiterPostgres, RateLimiterRedis, Redis: RedisClient } = packages
  const consume = (flexible: FlexibleLimiter) => async (key: number) => {
    await flexible.consume(`k${key}`)
    return true
  }

  const pool = new pg.Pool({ connectionString: postgres })
  stops.push(() => pool.end())
  const options = { points: limit, duration: windowMs / 1000, keyPrefix: '' }
  limiters['rate-limiter-flexible, Postgres'] = consume(await createFlexible(RateLimiterPostgres, pool, options))

  const server = await startRedis()
  if (server === undefined) {
    notes.push('Not measured: Redis. Install redis-server (Debian: apt-get install redis-server).')
    return { limiters, notes, stop }
  }
  stops.push(server.stop)
  const redis = new RedisClient({ path: server.socket, lazyConnect: true })
  await redis.connect()
  stops.push(() => redis.disconnect())
  limiters['rate-limiter-flexible, Redis'] = consume(
    new RateLimiterRedis({ ...options, keyPrefix: 'flexible', storeClient: redis }),
  )
  redis.defineCommand('slidingWindow', { numberOfKeys: 1, lua: SORTED_SET_WINDOW })
  const command = redis as Redis & SortedSetCommand
  let member = 0
  limiters['sorted set, Redis'] = async (key) =>
    (await command.slidingWindow(`window:${key}`, String(member++), windowMs, limit)) === 1
  return { limiters, notes, stop }
}

function loadPackages() {
  const require = createRequire(join(import.meta.dirname, 'others/package.json'))
  try {
    const flexible: Record<'RateLimiterPostgres' | 'RateLimiterRedis', FlexibleClass> = require('rate-limiter-flexible')
    const { Redis }: { Redis: new (options: object) => Redis } = require('ioredis')
    return { ...flexible, Redis }
  } catch (error) {
    if ((error as { code?: unknown }).code === 'MODULE_NOT_FOUND') return undefined
    throw error
  }
}

/** On a table without durability, as ours. */
async function createFlexible(Limiter: FlexibleClass, pool: pg.Pool, options: object): Promise<FlexibleLimiter> {
  const tableName = 'flexible_limits'
  const limiter = await new Promise<FlexibleLimiter>((resolve, reject) => {
    const created: FlexibleLimiter = new Limiter({ ...options, storeClient: pool, tableName }, (error) => {
      if (error) reject(error)
      else setImmediate(() => resolve(created))
    })
  })
  await pool.query(`alter table ${tableName} set unlogged`)
  return limiter
}

/** A Redis of our own on a socket file, which keeps nothing on disk. */
async function startRedis(): Promise<{ socket: string; stop: () => Promise<void> } | undefined> {
  const directory = mkdtempSync(join(tmpdir(), 'rowhouse-redis-'))
  const socket = join(directory, 'redis.sock')
  const server = spawn('redis-server', ['--port', '0', '--unixsocket', socket, '--save', '', '--dir', directory])
  const started = await isReady(server)
  if (!started) {
    rmSync(directory, { recursive: true, force: true })
    return undefined
  }
  return {
    socket,
    stop: async () => {
      const ended = new Promise((resolve) => server.once('exit', resolve))
      server.kill()
      await ended
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

function isReady(server: ChildProcess): Promise<boolean> {
  return new Promise((resolve) => {
    server.once('error', () => resolve(false))
    server.once('exit', () => resolve(false))
    server.stdout!.on('data', (text: Buffer) => {
      if (text.toString().includes('eady to accept connections')) resolve(true)
    })
  })
}
