import { createHash } from 'node:crypto'
import pg from 'pg'
import { withParts } from './connection.ts'
import type { Role, Urls } from './engine.ts'

/**
 * The logins of the tests. None of them is a superuser or has BYPASSRLS.
 * - owner: owns the test databases and migrates them; has CREATEROLE and CREATEDB
 * - app: the application; member of rowhouse_app only
 * - operator: member of rowhouse_admin only
 */
const LOGINS = {
  owner: 'rowhouse_test_owner',
  app: 'rowhouse_test_app',
  operator: 'rowhouse_test_operator',
} as const

/** Creates the logins, or gives those of an earlier run their password. Without a superuser `url` is the owner. */
export async function createLogins(client: pg.Client, url: string, superuser: boolean): Promise<Urls> {
  const login = async (role: Exclude<Role, 'superuser'>, attributes: string) => {
    const user = LOGINS[role]
    const password = passwordOf(user, url)
    const { rowCount } = await client.query('select from pg_roles where rolname = $1', [user])
    const verb = rowCount === 0 ? 'create' : 'alter'
    await client.query(`${verb} role ${user} login ${attributes} password ${pg.escapeLiteral(password)}`)
    return withParts(url, { user, password })
  }
  return {
    owner: superuser ? await login('owner', 'createrole createdb') : url,
    app: await login('app', ''),
    operator: await login('operator', ''),
    ...(superuser ? { superuser: url } : {}),
  }
}

/** The same in every run, so that runs can share a server, and nobody's who doesn't know the password in `url`. */
function passwordOf(login: string, url: string): string {
  return createHash('sha256')
    .update(`${login}\n${new URL(url).password}`)
    .digest('hex')
    .slice(0, 32)
}

/**
 * Before a migration: roles that somebody else created on this server may be granted by our owner as if it had created
 * them. From 16 on creating a role says no more than that, in particular not that its creator may `set role` to it.
 */
export async function adoptRoles(client: pg.Client, urls: Urls): Promise<void> {
  if (urls.superuser === undefined) return
  for (const role of await existingRoles(client)) {
    const { rows } = await client.query<{ able: boolean; version: number }>(
      `select pg_has_role($1, $2, 'MEMBER WITH ADMIN OPTION') as able,
              current_setting('server_version_num')::integer as version`,
      [LOGINS.owner, role],
    )
    const { able, version } = rows[0]!
    const how = version >= 160000 ? 'admin true, inherit false, set false' : 'admin option'
    if (!able) await client.query(`grant ${role} to ${LOGINS.owner} with ${how}`)
  }
}

/** After a migration: lets application and operator be what they are. */
export async function grantRoles(client: pg.Client): Promise<void> {
  const roles = await existingRoles(client)
  if (roles.includes('rowhouse_app')) await client.query(`grant rowhouse_app to ${LOGINS.app}`)
  if (roles.includes('rowhouse_admin')) await client.query(`grant rowhouse_admin to ${LOGINS.operator}`)
}

async function existingRoles(client: pg.Client): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(
    "select rolname as name from pg_roles where rolname in ('rowhouse_owner', 'rowhouse_app', 'rowhouse_admin', 'rowhouse_search')",
  )
  return rows.map(({ name }) => name)
}
