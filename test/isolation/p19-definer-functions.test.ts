// P19: a SECURITY DEFINER function sees what its owner sees, so an exempt owner's function returns every tenant's rows.
// Closed: ours belong to a role that policies hold for; protect_table reports those of exempt owners.
import { beforeAll, describe, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { ACME, canariesOf, GLOBEX, protect, useAppTables } from './support/app-tables.ts'
import { useClients } from './support/clients.ts'
import { expectClosed, unlessRefused } from './support/expect-closed.ts'
import { inTenant, rowsInTenant, undone } from './support/in-tenant.ts'

const database = useDatabase({ needs: ['superuser'] })
useAppTables(database)
const clients = useClients(database, 'owner', 'superuser', 'app')

describe('a definer function of the application', () => {
  const foreignRows = () => rowsInTenant(clients.app, ACME, `select * from all_invoices() where tenant_id <> '${ACME}'`)

  beforeAll(() =>
    clients.superuser.query(`
      create function all_invoices() returns setof invoices language plpgsql security definer
        set search_path = pg_catalog, pg_temp as $$ begin return query select * from public.invoices; end $$;
      alter function all_invoices() owner to rowhouse_owner`),
  )

  test('returns the rows of the tenant when policies hold for its owner', async () => {
    await expectClosed({
      probe: foreignRows,
      removeProtection: () => clients.superuser.query('alter function all_invoices() owner to current_user'),
      restoreProtection: () => clients.superuser.query('alter function all_invoices() owner to rowhouse_owner'),
    })
  })

  test('is reported when they do not', async () => {
    const finding = async () => {
      const { findings } = await protect(clients.owner, 'invoices')
      return findings.filter(({ kind }) => kind === 'function_of_exempt_owner').map(({ object }) => object)
    }
    await expectClosed({
      probe: finding,
      removeProtection: () => clients.superuser.query('alter function all_invoices() owner to current_user'),
      restoreProtection: () => clients.superuser.query('alter function all_invoices() owner to rowhouse_owner'),
    })
  })
})

/** What an attacker passes where a function takes text. */
const HOSTILE = [GLOBEX, '', `${ACME}' or '1'='1`, 'public.invoices', 'rowhouse.tenants', '*', "x'; select 1 --"]

describe('the functions of rowhouse', needs('realRoles'), () => {
  test('that the application may call return nothing of another tenant, whatever they are given', async () => {
    const { rows: functions } = await clients.owner.query<{ name: string; types: string[] }>(`
      select p.oid::regproc::text as name,
          array(select format_type(t.type, null) from unnest(p.proargtypes) with ordinality t (type, place) order by place) as types
        from pg_proc p
        where p.pronamespace = 'rowhouse'::regnamespace and p.prokind = 'f' and p.prorettype <> 'trigger'::regtype
          and has_function_privilege('rowhouse_app', p.oid, 'execute')`)
    expect(functions.length).toBeGreaterThan(3)
    const found: string[] = []
    await inTenant(clients.app, ACME, async () => {
      for (const { name, types } of functions) {
        for (const hostile of HOSTILE) {
          const call = `${name}(${types.map((type) => `'${hostile.replaceAll("'", "''")}'::${type}`).join(', ')})`
          const answer = await undone(clients.app, () => clients.app.query(`select ${call} as answer`)).then(
            ({ rows }) => JSON.stringify(rows),
            // What an error says is compared as well.
            (error) => JSON.stringify({ ...error, message: error.message, internalQuery: undefined }),
          )
          if (answer.includes(canariesOf(GLOBEX))) found.push(`${call}: ${answer}`)
        }
      }
    })
    expect(found).toEqual([])
  })

  test('that only operators may call are refused to the application', async () => {
    const attempts = [
      'erase_tenant',
      'begin_erasure',
      'suspend_tenant',
      'resume_tenant',
      'promote_tenant',
      'demote_tenant',
      'begin_demotion',
      'demote_next',
    ].map((name) => `select rowhouse.${name}('${GLOBEX}')`)
    const succeeded: string[] = []
    await inTenant(clients.app, ACME, async () => {
      for (const attempt of attempts) {
        await undone(clients.app, () =>
          unlessRefused('42501', async () => {
            await clients.app.query(attempt)
            succeeded.push(attempt)
            return []
          }),
        )
      }
    })
    expect(succeeded).toEqual([])
  })
})
