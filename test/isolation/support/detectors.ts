import type pg from 'pg'
import { findIsolationGaps, IsolationError, proveIsolation } from '../../../src/testing/index.ts'
import { ACME, GLOBEX } from './app-tables.ts'
import { functionGaps, policyFunctionGaps, relationGaps, unownedObjects } from './conventions.ts'
import { undone } from './in-tenant.ts'
import { privilegeManifest } from './privilege-manifest.ts'

/** Looks for something wrong, inside a transaction of the owner; nothing when all is well. */
export type Detector = (client: pg.ClientBase) => Promise<readonly unknown[]>

/** Those that read the catalogs: cheap, so they come first. */
export function catalogDetectors(manifest: string): Readonly<Record<string, Detector>> {
  return {
    gaps: (client) => findIsolationGaps(client),
    conventions: async (client) => [
      ...(await functionGaps(client)),
      ...(await relationGaps(client)),
      ...(await policyFunctionGaps(client)),
      ...(await unownedObjects(client)),
    ],
    privileges: async (client) => ((await privilegeManifest(client)) === manifest ? [] : ['another manifest']),
  }
}

/** Those that try: what tenants and operators can do. */
export const PROBES: Readonly<Record<string, Detector>> = {
  'a tenant sees its own row of the registry only': async (client) => {
    await become(client, 'rowhouse_app', ACME)
    const { rows } = await client.query('select tenant_id from rowhouse.tenants')
    return rows.filter((row) => row.tenant_id !== ACME)
  },
  'who may not work is not let in': async (client) => [
    ...(await expectCodes(client, 'select rowhouse.enter_tenant()', ENTERING)),
    ...(await expectCodes(client, `insert into public.events (id, kind, payload) values (900, '', '{}')`, WRITING)),
  ],
  'a write holds the lock of its tenant': async (client) => {
    await become(client, 'rowhouse_app', ACME)
    await client.query("insert into public.events (id, kind, payload) values (900, '', '{}')")
    const { rows } = await client.query(
      "select mode from pg_locks where locktype = 'advisory' and pid = pg_backend_pid() and mode = 'ShareLock'",
    )
    return rows.length > 0 ? [] : ['no lock']
  },
  'ids are checked, and never used again': async (client) => [
    ...(await expectCode(client, 'rowhouse_admin', '', "select rowhouse.provision_tenant('two words')", 'RH006')),
    ...(await expectCode(client, 'rowhouse_admin', '', "select rowhouse.provision_tenant('erased')", 'RH004')),
  ],
  'an erasure takes every row of the tenant, and no other': async (client) => {
    const count = async (tenantId: string) => {
      await become(client, 'rowhouse_app', tenantId)
      const { rows } = await client.query(
        'select (select count(*) from events) + (select count(*) from invoices) as rows',
      )
      return Number(rows[0].rows)
    }
    const before = [await count(ACME), await count(GLOBEX)]
    await become(client, 'rowhouse_admin', '')
    await client.query(`select rowhouse.erase_tenant('${GLOBEX}')`)
    const after = [await count(ACME), await count(GLOBEX)]
    return before[1]! > 0 && after[0] === before[0] && after[1] === 0 ? [] : [before, after]
  },
  'an erasure refuses where a table is not registered': async (client) => {
    await client.query(`set local role none; create table public.forgotten as select '${GLOBEX}'::text as tenant_id`)
    return expectCode(client, 'rowhouse_admin', '', `select rowhouse.erase_tenant('${GLOBEX}')`, 'RH030')
  },
  'a new table that is protected is closed': async (client) => {
    await client.query(`set local role none; set local app.tenant_id = '';
      create table public.fresh (tenant_id text, id int, primary key (tenant_id, id))`)
    await client.query("select rowhouse.protect_table('public.fresh', p_partition => true)")
    await client.query(`set local role rowhouse_admin; select rowhouse.promote_tenant('${ACME}'); set local role none`)
    const gaps = await findIsolationGaps(client)
    return gaps.length > 0 ? gaps : leaks(client, ['public.fresh'])
  },
  'what protection can not make safe is reported': async (client) => {
    await client.query('set local role none; create unique index everywhere on public.invoices (note)')
    const gaps = await findIsolationGaps(client)
    return gaps.some(({ kind }) => kind === 'key_without_tenant') ? [] : ['nothing was reported']
  },
  'the start-up check tells an exposed table': async (client) => {
    await client.query('set local role none; alter table public.invoices disable row level security')
    await become(client, 'rowhouse_app', '')
    const { rows } = await client.query('select rowhouse.startup_check() as facts')
    return rows[0].facts.exposed.includes('public.invoices') ? [] : [rows[0].facts]
  },
  'no verb reaches another tenant': (client) => leaks(client),
}

/** What each tenant that may not work is told when it enters. */
const ENTERING = { '': 'RH001', 'two words': 'RH006', nobody: 'RH002', suspended: 'RH003', erased: 'RH004' }

/** And when it writes without entering. */
const WRITING = { '': 'RH001', nobody: 'RH002', suspended: 'RH003', erased: 'RH004' }

async function expectCodes(
  client: pg.ClientBase,
  sql: string,
  codes: Readonly<Record<string, string>>,
): Promise<unknown[]> {
  const found: unknown[] = []
  for (const [tenantId, code] of Object.entries(codes)) {
    found.push(...(await expectCode(client, 'rowhouse_app', tenantId, sql, code)))
  }
  return found
}

async function expectCode(
  client: pg.ClientBase,
  role: string,
  tenantId: string,
  sql: string,
  expected: string,
): Promise<unknown[]> {
  return undone(client, async () => {
    await become(client, role, tenantId)
    const code = await client.query(sql).then(
      () => 'accepted',
      (error) => error.code,
    )
    return code === expected ? [] : [`${tenantId}: ${sql}: ${code}`]
  })
}

async function become(client: pg.ClientBase, role: string, tenantId: string): Promise<void> {
  await client.query(`set local role ${role}; set local app.tenant_id = '${tenantId}'`)
}

async function leaks(client: pg.ClientBase, tables?: readonly string[]): Promise<readonly unknown[]> {
  try {
    await proveIsolation(client, { tables })
    return []
  } catch (error) {
    return error instanceof IsolationError ? error.leaks : [error]
  }
}

/** The first detector that notices something; undefined when none does. An error is noticed as well. */
export async function firstToNotice(
  client: pg.ClientBase,
  detectors: Readonly<Record<string, Detector>>,
): Promise<string | undefined> {
  for (const [name, detect] of Object.entries(detectors)) {
    const found = await undone(client, async () => {
      try {
        return await detect(client)
      } catch (error) {
        return [error]
      }
    })
    if (found.length > 0)
      return `${name}: ${String(JSON.stringify(found[0], Object.getOwnPropertyNames(found[0])) ?? found[0]).slice(0, 300)}`
  }
  return undefined
}
