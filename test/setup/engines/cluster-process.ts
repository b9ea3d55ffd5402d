/**
 * Runs a throw-away PostgreSQL: makes a data folder, starts the server, and removes both when the process that forked
 * this one is done, or dead.
 */
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process'
import { chown, cp, mkdtemp, rm, statfs, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import type { ClusterOptions, ClusterReady } from './cluster.ts'
import { serve, serverOptions } from './server-process.ts'

const run = promisify(execFile)
const options = serverOptions<ClusterOptions>()

/** Defaults of the server wherever behaviour depends on them; only what makes it fast and quiet is set. */
const SETTINGS = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  max_connections: '200',
  // The data is thrown away.
  fsync: 'off',
  full_page_writes: 'off',
  max_wal_size: '128MB',
  // Plans and pg_stat_activity are the same in every run.
  autovacuum: 'off',
  // Tests provoke errors by the hundred.
  log_min_messages: 'log',
  log_min_error_statement: 'panic',
}

const directories: string[] = []
let server: ChildProcess | undefined
let stopping = false

await serve({
  async start(): Promise<ClusterReady> {
    const identity = await unprivilegedIdentity()
    const directory = await makeDirectory(await fastFolder(), identity)
    const environment = { ...process.env, LC_ALL: 'C', TZ: 'UTC' }
    const how = { ...identity, cwd: directory, env: environment }
    const bin = await reachableBinaries(options.binDirectory, identity, how)

    const passwordFile = join(directory, 'password')
    await writeFile(passwordFile, options.password, { mode: 0o644 })
    const data = join(directory, 'data')
    await run(
      join(bin, 'initdb'),
      [
        ...['-D', data, '--username=postgres', `--pwfile=${passwordFile}`, '--auth=scram-sha-256'],
        ...['--encoding=UTF8', '--locale=C', '--no-sync', '--no-instructions'],
      ],
      how,
    )
    await rm(passwordFile)

    // Another process may take the port between our look and the server's start.
    for (let attempt = 1; ; attempt++) {
      const port = await freePort()
      try {
        await startServer(join(bin, 'postgres'), data, port, how)
        return { port }
      } catch (error) {
        if (attempt === 3 || stopping) throw error
      }
    }
  },

  async stop() {
    stopping = true
    if (server !== undefined && server.exitCode === null && server.signalCode === null) {
      const exited = new Promise((resolve) => server?.once('exit', resolve))
      // Immediate shutdown: nothing of it is worth a checkpoint.
      server.kill('SIGQUIT')
      await exited
    }
    for (const directory of directories) await rm(directory, { recursive: true, force: true, maxRetries: 5 })
  },
})

interface Identity {
  readonly uid: number
  readonly gid: number
}

interface SpawnOptions extends Partial<Identity> {
  readonly cwd: string
  readonly env: NodeJS.ProcessEnv
}

/** Servers refuse to run as root: then the server is an existing user without privileges. */
async function unprivilegedIdentity(): Promise<Identity | undefined> {
  if (process.getuid?.() !== 0) return undefined
  for (const user of ['postgres', 'nobody']) {
    try {
      const [uid, gid] = await Promise.all([run('id', ['-u', user]), run('id', ['-g', user])])
      return { uid: Number(uid.stdout), gid: Number(gid.stdout) }
    } catch {
      // No such user.
    }
  }
  throw new Error('A server does not run as root, and this machine has neither the user postgres nor nobody.')
}

async function makeDirectory(parent: string, owner: Identity | undefined): Promise<string> {
  const directory = await mkdtemp(join(parent, 'rowhouse-test-'))
  directories.push(directory)
  if (owner !== undefined) await chown(directory, owner.uid, owner.gid)
  return directory
}

/** Memory where Linux offers plenty: a database is copied there in 20 ms, on a disk in 100 to 250. */
async function fastFolder(): Promise<string> {
  try {
    const { bavail, bsize } = await statfs('/dev/shm')
    if (bavail * bsize > 2 * 1024 ** 3) return '/dev/shm'
  } catch {
    // There is none.
  }
  return tmpdir()
}

/** The binaries, copied where the server's user can't reach them, as in a clone below /root. */
async function reachableBinaries(bin: string, user: Identity | undefined, how: SpawnOptions): Promise<string> {
  const { error } = spawnSync(join(bin, 'postgres'), ['--version'], { ...how, stdio: 'ignore' })
  if ((error as NodeJS.ErrnoException | undefined)?.code !== 'EACCES') return bin
  // Not in memory, from which programs may be forbidden to start.
  const copy = join(await makeDirectory(tmpdir(), user), 'server')
  await cp(dirname(bin), copy, { recursive: true, verbatimSymlinks: true })
  return join(copy, 'bin')
}

async function freePort(): Promise<number> {
  const probe = createServer()
  await new Promise<void>((resolve, reject) => {
    probe.once('error', reject)
    probe.listen(0, '127.0.0.1', resolve)
  })
  const address = probe.address()
  await new Promise((resolve) => probe.close(resolve))
  if (address === null || typeof address === 'string') throw new Error('no free port')
  return address.port
}

function startServer(postgres: string, data: string, port: number, how: SpawnOptions): Promise<void> {
  const settings = Object.entries({ ...SETTINGS, ...options.settings, port: String(port) }).flatMap(([name, value]) => [
    '-c',
    `${name}=${value}`,
  ])
  const child = spawn(postgres, ['-D', data, ...settings], { ...how, stdio: ['ignore', 'ignore', 'pipe'] })
  server = child
  return new Promise((resolve, reject) => {
    let log = ''
    child.stderr.on('data', (chunk: Buffer) => {
      log = (log + chunk.toString()).slice(-4000)
      if (log.includes('ready to accept connections')) resolve()
    })
    child.once('error', reject)
    child.once('exit', (code) => reject(new Error(`postgres ended with exit code ${code}: ${log}`)))
  })
}
