// proveIsolation: it finds no leak where there is none, every hole that is made, and leaves nothing behind.
import { beforeAll, describe, expect, test } from 'vitest'
import { IsolationError, type IsolationLeak, proveIsolation } from '../../src/testing/index.ts'
import { ACME, protect, useAppTables } from '../isolation/support/app-tables.ts'
import { useClients } from '../isolation/support/clients.ts'
import { expectClosed } from '../isolation/support/expect-closed.ts'
import { rowsInTenant } from '../isolation/support/in-tenant.ts'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'owner', 'app')

beforeAll(async () => {
  // Tables that make it hard to make up a row.
  await clients.owner.query(`
    create type color as enum ('red', 'green');
    create domain percent as int check (value between 0 and 100);
    create table by_uuid (tenant_id uuid not null, id bigint generated always as identity, state text not null
        check (state in ('open', 'closed')), share percent not null, colors color[] not null, code varchar(3) not null,
        total numeric(4, 2) not null check (total < 10), at timestamptz not null, during daterange not null,
        twice int generated always as (share * 2) stored, primary key (tenant_id, id));
    create table by_number (account bigint not null, id int, parent int, primary key (account, id),
        foreign key (account, parent) references by_number);
    create table without_key (tenant_id text not null, note text);
    create table "Odd ""name""" (tenant_id text not null, "the ""Id""" uuid, primary key (tenant_id, "the ""Id"""));
    create table countries (code text primary key); insert into countries values ('ch');
    create table addresses (tenant_id text not null, id uuid, country text not null references countries, customer uuid not null,
        primary key (tenant_id, id), foreign key (tenant_id, customer) references customers on delete cascade)`)
  await protect(clients.owner, 'by_uuid')
  await protect(clients.owner, 'by_number', { column: 'account' })
  for (const table of ['without_key', '"Odd ""name"""', 'addresses']) await protect(clients.owner, table)
})

/** What is found, or nothing. */
const leaks = (options?: Parameters<typeof proveIsolation>[1]): Promise<readonly IsolationLeak[]> =>
  proveIsolation(clients.owner, options).then(
    () => [],
    (error) => {
      if (error instanceof IsolationError) return error.leaks
      throw error
    },
  )

test('attacks every protected table, and nothing stays', async () => {
  const count = async () =>
    (
      await clients.owner.query(
        'select (select count(*) from rowhouse.tenants) as tenants, (select count(*) from pg_class) as relations',
      )
    ).rows
  const before = await count()
  const proof = await proveIsolation(clients.owner)
  const own = proof.tables.map(({ table }) => table).filter((table) => !table.startsWith('rowhouse.'))
  expect(own.sort()).toEqual(
    [
      'public."Odd ""name"""',
      'public.addresses',
      'public.by_number',
      'public.by_uuid',
      'public.customers',
      'public.events',
      'public.invoices',
      'public.without_key',
    ].sort(),
  )
  for (const { attempts, refused } of proof.tables.filter(({ table }) => own.includes(table))) {
    expect(attempts).toBeGreaterThan(40)
    expect(refused).toBeLessThan(attempts)
  }
  expect(proof.attempts).toBe(proof.tables.reduce((sum, { attempts }) => sum + attempts, 0))
  expect(await count()).toEqual(before)
})

describe('each hole is found', () => {
  test.each([
    ['row-level security disabled', 'alter table %t disable row level security'],
    [
      'a looser condition',
      'alter policy rowhouse_tenant on %t using (true); alter policy rowhouse_isolation on %t using (true)',
    ],
    [
      'a permissive policy instead of the restrictive one',
      'create policy careless on %t using (true); drop policy rowhouse_isolation on %t',
    ],
    ['truncate', 'grant truncate on %t to rowhouse_app'],
    [
      'a looser check',
      `alter policy rowhouse_tenant on %t with check (true); alter policy rowhouse_isolation on %t with check (true)`,
    ],
  ])('%s', async (_what, make) => {
    for (const table of ['without_key', 'by_uuid', 'events']) {
      await expectClosed({
        probe: () => leaks({ tables: [table] }),
        removeProtection: () => clients.owner.query(make.replaceAll('%t', table)),
        restoreProtection: async () => {
          await clients.owner.query(`drop policy if exists careless on ${table}`)
          await protect(clients.owner, table)
        },
      })
    }
  })

  test('tables without policies', async () => {
    await clients.owner.query(`create table open_to_readers (tenant_id text, body text); create table open_to_deletes (body text);
      grant select on open_to_readers, countries to rowhouse_app; grant delete on open_to_deletes to rowhouse_app`)
    expect(await leaks({ sharedTables: ['public.countries'] })).toEqual([
      { table: 'public.open_to_deletes', verb: 'any statement', evidence: [expect.stringContaining('delete')] },
      { table: 'public.open_to_readers', verb: 'any statement', evidence: [expect.stringContaining('select')] },
    ])
    await clients.owner.query('drop table open_to_readers, open_to_deletes')
    // The control: what nobody said is shared.
    expect(await leaks()).toMatchObject([{ table: 'public.countries' }])
    await clients.owner.query('revoke select on countries from rowhouse_app')
  })

  test('a partition that can be named', async () => {
    const { rows } = await clients.owner.query(
      "select relid::regclass::text as name from pg_partition_tree('events') where isleaf",
    )
    const alter = (how: string) =>
      clients.owner.query(
        `begin; set local role rowhouse_owner; grant usage on schema rowhouse_partitions to rowhouse_app; commit; begin;
          ${rows.map(({ name }) => how.replaceAll('%t', name)).join('; ')}; commit`,
      )
    await expectClosed({
      probe: () => leaks({ tables: ['events'] }),
      removeProtection: () => alter('grant select on %t to rowhouse_app; alter table %t disable row level security'),
      restoreProtection: async () => {
        await alter('revoke select on %t from rowhouse_app')
        await clients.owner.query(
          'begin; set local role rowhouse_owner; revoke usage on schema rowhouse_partitions from rowhouse_app; commit',
        )
        await protect(clients.owner, 'events', { partition: true })
      },
    })
  })

  test(
    'a trigger that writes to the next tenant is found by what it changed',
    needs('superuser', 'realRoles'),
    async () => {
      const superuser = await database.connect('superuser')
      await expectClosed({
        probe: () => leaks({ tables: ['customers'] }),
        removeProtection: () =>
          superuser.query(`
          create function vandalize() returns trigger language plpgsql security definer as $$
            begin
              if pg_trigger_depth() = 1 and tg_op = 'UPDATE' then update public.customers set visits = visits + 1; end if;
              return null;
            end $$;
          create trigger vandalize after update on customers for each statement execute function vandalize()`),
        restoreProtection: () => superuser.query('drop function vandalize() cascade'),
      })
    },
  )
})

describe('a subtly wrong policy, while the catalogs look innocent', () => {
  const setting = "nullif(current_setting('app.tenant_id', true), '')"
  const policies = (table: string, condition: string) =>
    ['rowhouse_tenant', 'rowhouse_isolation']
      .map((policy) => `alter policy ${policy} on ${table} using (${condition}) with check (${condition})`)
      .join('; ')

  /** What a look at the catalogs asks: enabled, forced, one policy of each kind, for all, both about the tenant. */
  const looksInnocent = async (table: string) => {
    const { rows } = await clients.owner.query(
      `select c.relrowsecurity and c.relforcerowsecurity and bool_and(p.polcmd = '*')
          and count(*) filter (where p.polpermissive) = 1 and count(*) filter (where not p.polpermissive) = 1
          and bool_and(pg_get_expr(p.polqual, c.oid) ~ 'tenant' and pg_get_expr(p.polwithcheck, c.oid) ~ 'tenant') as innocent
        from pg_class c join pg_policy p on p.polrelid = c.oid where c.oid = $1::regclass group by c.oid`,
      [table],
    )
    return rows[0].innocent
  }

  beforeAll(() =>
    clients.owner.query(`create function tenant_now() returns text language sql immutable
      as $$ select nullif(current_setting('app.tenant_id', true), '') $$`),
  )

  test.each([
    [
      'rows of no tenant belong to everybody',
      'without_key',
      `tenant_id = ${setting} or tenant_id is null`,
      'alter table without_key alter tenant_id drop not null',
      /no tenant/,
    ],
    ['an immutable function, whose answer a plan keeps', 'without_key', 'tenant_id = tenant_now()', '', /prepared/],
    ['a cast that cuts ids off', 'without_key', `tenant_id::varchar(20) = ${setting}::varchar(20)`, '', /select/],
    ['a comparison that ignores case', 'invoices', `lower(tenant_id) = lower(${setting})`, '', /select/],
    [
      'a uuid of which only the beginning counts',
      'by_uuid',
      `left(tenant_id::text, 8) = left(${setting}, 8)`,
      '',
      /select/,
    ],
    ['no tenant sees everything', 'invoices', `tenant_id = ${setting} or ${setting} is null`, '', /without a tenant/],
  ])('%s', async (_what, table, condition, alter, verb) => {
    await expectClosed({
      probe: async () => {
        expect(await looksInnocent(table)).toBe(true)
        const found = await leaks({ tables: [table] })
        if (found.length > 0) expect(found.map((leak) => leak.verb).join()).toMatch(verb)
        return found
      },
      removeProtection: () => clients.owner.query(`${policies(table, condition)}; ${alter}`),
      restoreProtection: () => protect(clients.owner, table),
    })
  })
})

test('the message names tables and verbs, and holds no value of a tenant that is not made up', async () => {
  await clients.owner.query('alter table invoices disable row level security')
  try {
    const error = (await proveIsolation(clients.owner).catch((reason) => reason)) as IsolationError
    expect(error).toBeInstanceOf(IsolationError)
    expect(error.code).toBe('isolation_broken')
    expect(error.message).toContain('public.invoices, select: a row holds ')
    expect(JSON.stringify(error.leaks) + error.message).not.toMatch(/acme|globex|canary/)
  } finally {
    await protect(clients.owner, 'invoices')
  }
})

describe('rows that can not be made up', () => {
  beforeAll(async () => {
    await clients.owner.query(
      `create table strict (tenant_id text not null, id int, code text not null check (code ~ '^[A-Z]{2}-\\d+$'), primary key (tenant_id, id))`,
    )
    await protect(clients.owner, 'strict')
  })

  test('are asked for, in a sentence', async () => {
    await expect(proveIsolation(clients.owner)).rejects.toMatchObject({
      code: 'invalid_argument',
      message: expect.stringContaining('public.strict'),
      hint: expect.stringContaining('rows'),
    })
  })

  test('are given', async () => {
    const rows = { strict: (tenantId: string) => ({ code: `AB-${tenantId.length}` }) }
    const proof = await proveIsolation(clients.owner, { tables: ['strict'], rows })
    expect(proof.tables).toHaveLength(1)
    await expectClosed({
      probe: () => leaks({ tables: ['strict'], rows }),
      removeProtection: () => clients.owner.query('alter table strict disable row level security'),
      restoreProtection: () => protect(clients.owner, 'strict'),
    })
    await clients.owner.query('drop table strict')
  })
})

test('inside a transaction of the caller, what was done there is proven with it, and stays', async () => {
  await clients.owner.query('begin')
  await clients.owner.query('create table drafts (tenant_id text not null, id int, primary key (tenant_id, id))')
  await protect(clients.owner, 'drafts')
  expect((await proveIsolation(clients.owner, { tables: ['drafts'] })).attempts).toBeGreaterThan(40)
  await clients.owner.query('alter table drafts disable row level security')
  await expect(proveIsolation(clients.owner, { tables: ['drafts'] })).rejects.toBeInstanceOf(IsolationError)
  expect((await clients.owner.query("select to_regclass('drafts') is not null as there")).rows).toEqual([
    { there: true },
  ])
  await clients.owner.query('rollback')
})

test(
  'a pool gets its connection back clean, and a login without the rights is told so',
  needs('realRoles'),
  async () => {
    const pool = database.pool('owner', { max: 1 })
    await proveIsolation(pool, { tables: ['invoices'] })
    expect(pool.idleCount).toBe(1)
    const { rows } = await pool.query(
      "select current_user = session_user as same, current_setting('app.tenant_id', true) as tenant",
    )
    expect(rows).toEqual([{ same: true, tenant: '' }])
    await expect(proveIsolation(database.url('app'))).rejects.toMatchObject({ code: 'missing_privilege' })
    await expect(proveIsolation(pool, { tables: ['countries'] })).rejects.toMatchObject({ code: 'table_not_protected' })
    await expect(proveIsolation(pool, { tables: ['nowhere'] })).rejects.toMatchObject({ code: 'invalid_argument' })
    expect((await rowsInTenant(clients.app, ACME, 'select from invoices')).length).toBe(9)
  },
)
