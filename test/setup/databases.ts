import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import pg from 'pg'
import { migrate } from '../../src/migrate/migrate.ts'
import { poll, withClient, withParts } from './connection.ts'
import type { Engine, Role, Run, Urls } from './engine.ts'
import { startCluster } from './engines/cluster.ts'
import { startPglite } from './engines/pglite.ts'
import { prepareServer } from './server.ts'
import { DATABASE_PREFIX, ensureTemplate, sourceHash } from './template.ts'

/** A database made for one test file. */
export interface CreatedDatabase {
  readonly urls: Partial<Record<Role, string>>
  /** Connections to backends other than `known` that are still open after a moment, described for an error message. */
  openConnections(known: ReadonlySet<number>): Promise<string[]>
  drop(): Promise<void>
}

export interface CreateOptions {
  /** Part of its name. */
  readonly name: string
  readonly migrated: boolean
  readonly ownServer: boolean
}

/** Makes a database on an engine: a copy of the template, an empty one, or one on a server of its own. */
export async function createDatabase(engine: Engine, run: Run, options: CreateOptions): Promise<CreatedDatabase> {
  if (engine.kind === 'pglite') return createPglite(run, options)
  if (options.ownServer) return createServer(engine, run, options)
  return createOnServer(engine.server!.urls, run, options)
}

async function createPglite(run: Run, { migrated }: CreateOptions): Promise<CreatedDatabase> {
  const install = (connectionString: string) => migrate({ connectionString })
  const template = join(run.directory, `pglite-${migrated ? sourceHash() : 'empty'}.tar`)
  const pglite = await startPglite(template, migrated ? install : undefined)
  return {
    urls: { owner: pglite.url, app: pglite.url, operator: pglite.url, superuser: pglite.url },
    openConnections: () =>
      untilNone(async () => {
        const count = await pglite.connections()
        return count === 0 ? [] : [`${count} connection(s) to PGlite`]
      }),
    drop: () => pglite.stop(),
  }
}

async function createServer(engine: Engine, run: Run, options: CreateOptions): Promise<CreatedDatabase> {
  const cluster = await startCluster(engine.binDirectory!)
  try {
    const server = await prepareServer(cluster.url, run.id)
    const database = await createOnServer(server.urls, run, options)
    return {
      ...database,
      async drop() {
        await server.release()
        await cluster.stop()
      },
    }
  } catch (error) {
    await cluster.stop()
    throw error
  }
}

async function createOnServer(serverUrls: Urls, run: Run, options: CreateOptions): Promise<CreatedDatabase> {
  const template = options.migrated ? await ensureTemplate(serverUrls) : undefined
  const database = `${DATABASE_PREFIX}${run.id}_${options.name}_${randomBytes(3).toString('hex')}`
  const quoted = pg.escapeIdentifier(database)
  const { owner, superuser } = serverUrls
  await withClient(owner, async (client) => {
    await client.query(`create database ${quoted}${template === undefined ? '' : ` template ${template.database}`}`)
    // A copy has everything of its template but the privileges on the database itself.
    if (template !== undefined) await client.query(await databaseGrants(client, template.database, quoted))
  })
  const urls = Object.fromEntries(
    Object.entries(serverUrls).map(([role, url]) => [role, withParts(url, { database })]),
  ) as Partial<Record<Role, string>>
  // The owner may not see or end the sessions of others.
  const keeper = superuser ?? owner
  return {
    urls,
    openConnections: (known) =>
      untilNone(() => withClient(keeper, (client) => listConnections(client, database, known))),
    drop: () => withClient(keeper, async (client) => void (await client.query(`drop database ${quoted} with (force)`))),
  }
}

async function databaseGrants(client: pg.Client, template: string, quoted: string): Promise<string> {
  const { rows } = await client.query<{ grant: string }>(
    `select format('grant %s on database %s to %s', privilege_type, $2::text,
              case grantee when 0 then 'public' else grantee::regrole::text end) as grant
     from pg_database cross join aclexplode(datacl) where datname = $1 and grantee <> datdba`,
    [template, quoted],
  )
  return rows.map((row) => row.grant).join(';')
}

async function listConnections(client: pg.Client, database: string, known: ReadonlySet<number>): Promise<string[]> {
  const { rows } = await client.query<{ who: string }>(
    `select format('%s as %s, %s: %s', application_name, usename, state, left(query, 100)) as who
     from pg_stat_activity where datname = $1 and backend_type = 'client backend' and pid <> all ($2::integer[])`,
    [database, [...known]],
  )
  return rows.map(({ who }) => who)
}

/** Backends end a moment after their client did. */
async function untilNone(list: () => Promise<string[]>): Promise<string[]> {
  let open: string[] = []
  const none = async () => {
    open = await list()
    return open.length === 0 ? open : undefined
  }
  return poll(none, { message: () => '', timeoutMs: 2000, everyMs: 20 }).catch(() => open)
}
