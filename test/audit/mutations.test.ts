// Every single-row tampering that a superuser can do: each column of each row of each table of a trail is changed, each
// row is removed, rows are inserted and swapped. Each must be found, and what was not touched must verify.
import type pg from 'pg'
import { beforeAll, expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { needs } from '../setup/needs.ts'
import { useRowhouse } from './support.ts'

const database = useDatabase({ needs: ['superuser'] })
const fixture = useRowhouse(database)
const TENANT = 'tampered'
let superuser: pg.Client

beforeAll(async () => {
  superuser = await database.connect('superuser')
  const { auditLog, tenants } = fixture.rowhouse
  await tenants.provision(TENANT)
  const audit = fixture.rowhouse.tenant(TENANT, { userId: 'u_1', requestId: 'r_1' }).audit
  const appendSome = (count: number) =>
    audit.append(
      Array.from({ length: count }, (_, index) => ({
        action: 'chat.respond',
        model: 'small-1',
        inputTokens: 10 + index,
        outputTokens: 5,
        cost: '0.001',
        documents: ['a', 'b'],
        latencyMs: 20,
        error: 'none',
        detail: { index },
      })),
    )
  // Purged segments, a segment that says so, full ones, and entries that no segment holds yet.
  await appendSome(3)
  await auditLog.seal(TENANT, { segmentSize: 2 })
  await auditLog.purge(TENANT, { before: new Date('2999-01-01') })
  await appendSome(5)
  await auditLog.seal(TENANT, { segmentSize: 2 })
  await appendSome(2)
})

interface Verified {
  intact: boolean
  findings: { kind: string; object: string }[]
}

async function verify(): Promise<Verified> {
  const { rows } = await superuser.query('select rowhouse.verify_audit($1) as result', [TENANT])
  return rows[0].result
}

/** What verification says after these statements, which are rolled back. */
async function verifyAfter(...statements: string[]): Promise<Verified> {
  await superuser.query(`begin; set local session_replication_role = replica; set local app.tenant_id = '${TENANT}'`)
  try {
    for (const statement of statements) {
      const { rowCount } = await superuser.query(statement)
      expect(rowCount, `${statement} changes something`).toBeGreaterThan(0)
    }
    return await verify()
  } finally {
    await superuser.query('rollback')
  }
}

const TABLES = ['audit_entries', 'audit_pending', 'audit_segments', 'audit_heads']
/** Another value of each type. */
const OTHER: Record<string, (column: string) => string> = {
  text: (column) => `coalesce(${column}, '') || 'x'`,
  name: () => `'somebody_else'`,
  uuid: () => 'gen_random_uuid()',
  // Far from the numbers of other segments, and within the constraints of each table.
  bigint: (column) =>
    `coalesce(${column}, 0) + case when tableoid <> 'rowhouse.audit_segments'::regclass then 1
      when '${column}' = 'segment_number' then 1000 else -1000 end`,
  numeric: (column) => `coalesce(${column}, 0) + 0.0001`,
  'timestamp with time zone': (column) => `${column} + interval '1 microsecond'`,
  jsonb: (column) => `${column} || '{"index": -1}'`,
  bytea: (column) => `set_byte(${column}, 31, get_byte(${column}, 31) # 1)`,
  'text[]': (column) => `array_append(${column}, 'c')`,
  'uuid[]': (column) => `array_append(${column}[2:], gen_random_uuid())`,
  'bytea[]': (column) => `array_append(${column}[2:], sha256('x'))`,
}

async function rowsOf(table: string): Promise<string[]> {
  const { rows } = await superuser.query<{ ctid: string }>(
    `select ctid::text from rowhouse.${table} where tenant_id = $1 order by 1`,
    [TENANT],
  )
  return rows.map(({ ctid }) => ctid)
}

test('untouched, the trail verifies', async () => {
  expect(await verify()).toMatchObject({ intact: true, findings: [] })
  expect(await rowsOf('audit_entries')).toHaveLength(7)
  expect(await rowsOf('audit_pending')).toHaveLength(2)
  expect(await rowsOf('audit_segments')).toHaveLength(6)
})

test.each(TABLES)('each column of each row of %s', async (table) => {
  const { rows: columns } = await superuser.query<{ name: string; type: string }>(
    `select attname as name, format_type(atttypid, null) as type from pg_attribute
      where attrelid = $1::regclass and attnum > 0 and not attisdropped`,
    [`rowhouse.${table}`],
  )
  const missed: string[] = []
  for (const ctid of await rowsOf(table)) {
    for (const { name, type } of columns) {
      const empty = `${name} is not null and ${type.endsWith('[]') && table === 'audit_segments' ? `cardinality(${name}) > 0` : 'true'}`
      const { rows } = await superuser.query(`select from rowhouse.${table} where ctid = '${ctid}' and ${empty}`)
      // A column without a value gets one, but for the arrays of a segment that says what was purged: see below.
      if (rows.length === 0 && type.endsWith('[]')) continue
      const change = `update rowhouse.${table} set ${name} = ${OTHER[type]!(name)} where ctid = '${ctid}'`
      if ((await verifyAfter(change)).intact) missed.push(change)
    }
  }
  expect(missed).toEqual([])
})

test.each(TABLES)('each row of %s removed', async (table) => {
  const missed: string[] = []
  for (const ctid of await rowsOf(table)) {
    const remove = `delete from rowhouse.${table} where ctid = '${ctid}'`
    if ((await verifyAfter(remove)).intact) missed.push(remove)
  }
  expect(missed).toEqual([])
})

test('inserted rows, also copies of others', async () => {
  const columns = async (table: string) => {
    const { rows } = await superuser.query<{ names: string }>(
      `select string_agg(attname, ', ' order by attnum) as names from pg_attribute
        where attrelid = $1::regclass and attnum > 0 and not attisdropped`,
      [`rowhouse.${table}`],
    )
    return rows[0]!.names
  }
  const copy = async (table: string, column: string, value: string, which: string) => {
    const names = await columns(table)
    const values = names.replace(new RegExp(`\\b${column}\\b`), value)
    return `insert into rowhouse.${table} (${names}) select ${values} from rowhouse.${table} where tenant_id = '${TENANT}' ${which} limit 1`
  }
  for (const insert of [
    await copy('audit_entries', 'entry_id', 'gen_random_uuid()', ''),
    await copy('audit_entries', 'entry_id', `'00000000-0000-7000-8000-000000000000'`, ''),
    await copy('audit_pending', 'entry_id', 'gen_random_uuid()', ''),
    // An entry that is sealed, once more as pending.
    `insert into rowhouse.audit_pending select e.tenant_id, e.entry_id, rowhouse.audit_commitment(e)
      from rowhouse.audit_entries e where e.tenant_id = '${TENANT}' order by e.entry_id limit 1`,
    await copy('audit_segments', 'segment_number', '7', 'order by segment_number desc'),
    await copy('audit_segments', 'segment_number', '0', ''),
    await copy('audit_segments', 'segment_number', '-3', ''),
    await copy('audit_segments', 'segment_number', '99', ''),
    // A segment that calls everything purged, with the right digest.
    `insert into rowhouse.audit_segments
      select s.tenant_id, s.segment_number, s.first_position, s.entry_ids, s.commitments, s.purged_through, s.sealed_at,
          rowhouse.segment_digest(h.digest, s)
        from rowhouse.audit_heads h, lateral (
          select (row(h.tenant_id, h.segment_number + 1, h.next_position, '{}'::uuid[], '{}'::bytea[], h.segment_number,
            now(), null)::rowhouse.audit_segments).*) s
        where h.tenant_id = '${TENANT}'`,
  ]) {
    const verified = await verifyAfter(insert)
    expect(verified.intact, insert).toBe(false)
    expect(verified.findings.length, insert).toBeGreaterThan(0)
  }
})

test('a purged entry that comes back', async () => {
  const { rows } = await superuser.query(
    `select entry_ids[1] as id from rowhouse.audit_segments where tenant_id = $1 and segment_number = 1`,
    [TENANT],
  )
  expect(
    await verifyAfter(
      `insert into rowhouse.audit_entries (tenant_id, entry_id, action) values ('${TENANT}', '${rows[0].id}', 'a')`,
    ),
  ).toMatchObject({ findings: [{ kind: 'inserted', object: 'entry', entryId: rows[0].id }] })
})

test('swapped rows: entries, commitments, segments', async () => {
  const entries = `select e.*, row_number() over (order by e.entry_id) as place from rowhouse.audit_entries e where e.tenant_id = '${TENANT}'`
  const swapContents = `update rowhouse.audit_entries t
    set action = s.action, detail = s.detail, salt = s.salt, recorded_at = s.recorded_at, occurred_at = s.occurred_at
    from (${entries}) s, (${entries}) o
    where t.tenant_id = o.tenant_id and t.entry_id = o.entry_id and s.place = 3 - o.place and o.place in (1, 2)`
  expect(await verifyAfter(swapContents)).toMatchObject({
    findings: [
      { kind: 'changed', object: 'entry', position: 5 },
      { kind: 'changed', object: 'entry', position: 6 },
    ],
  })
  // Ids and with them the places in the trail: both entries are there, each where the other was.
  const swapIds = [
    `update rowhouse.audit_segments set entry_ids = array[entry_ids[2], entry_ids[1]] where tenant_id = '${TENANT}' and segment_number = 4`,
  ]
  expect((await verifyAfter(...swapIds)).findings).toEqual([
    expect.objectContaining({ kind: 'changed', object: 'segment', segment: 4 }),
    expect.objectContaining({ kind: 'reordered', object: 'entry', position: 5 }),
    expect.objectContaining({ kind: 'reordered', object: 'entry', position: 6 }),
  ])
  const swapBoth = `update rowhouse.audit_segments set entry_ids = array[entry_ids[2], entry_ids[1]],
    commitments = array[commitments[2], commitments[1]] where tenant_id = '${TENANT}' and segment_number = 4`
  expect(await verifyAfter(swapBoth)).toMatchObject({ findings: [{ kind: 'changed', object: 'segment', segment: 4 }] })
  const renumber = (from: number, to: number) =>
    `update rowhouse.audit_segments set segment_number = ${to}, purged_through = null where tenant_id = '${TENANT}' and segment_number = ${from}`
  expect((await verifyAfter(renumber(4, 100), renumber(5, 4), renumber(100, 5))).intact).toBe(false)
})

test('the finding names what was done to which entry', async () => {
  const { rows } = await superuser.query<{ id: string }>(
    `select entry_id as id from rowhouse.audit_entries where tenant_id = $1 order by 1`,
    [TENANT],
  )
  const [first, second] = rows as [{ id: string }, { id: string }]
  expect(
    await verifyAfter(
      `update rowhouse.audit_entries set error = null where entry_id = '${first.id}'`,
      `delete from rowhouse.audit_entries where entry_id = '${second.id}'`,
    ),
  ).toMatchObject({
    intact: false,
    findings: [
      { kind: 'changed', object: 'entry', position: 5, entryId: first.id },
      { kind: 'removed', object: 'entry', position: 6, entryId: second.id },
    ],
  })
})

test('a signature that was changed', needs('superuser'), async () => {
  const { generateKeyPairSync } = await import('node:crypto')
  const { auditLog } = fixture.rowhouse
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  await auditLog.seal('acme', { signingKey: privateKey })
  expect(await auditLog.verify('acme', { publicKeys: [publicKey] })).toMatchObject({ intact: true, signedThrough: 1 })
  await superuser.query(`set session_replication_role = replica;
    update rowhouse.audit_signatures set signature = set_byte(signature, 3, get_byte(signature, 3) # 1);
    set session_replication_role = origin`)
  expect(await auditLog.verify('acme', { publicKeys: [publicKey] })).toMatchObject({
    intact: false,
    findings: [
      { kind: 'invalid', object: 'signature', segment: 1 },
      { kind: 'missing', object: 'signature' },
    ],
  })
})
