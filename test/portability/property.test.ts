// Whatever the tables and values: after an export and an import under another id the hashes are equal, and so is the text
// of every column.

import fc from 'fast-check'
import type pg from 'pg'
import { beforeAll, expect, test } from 'vitest'
import type { Rowhouse } from '../../src/index.ts'
import { openRowhouse } from '../audit/support.ts'
import { protect } from '../protect/support.ts'
import { useDatabase } from '../setup/database.ts'
import { exportToMemory, streamOf, textsOf } from './support.ts'

const database = useDatabase()
let owner: pg.Client
let rowhouse: Rowhouse
let run = 0

beforeAll(async () => {
  owner = await database.connect('owner')
  rowhouse = openRowhouse(database)
  return () => rowhouse.close()
})

const text = fc.string({ unit: 'grapheme', maxLength: 30 }).map((value) => value.replaceAll('\0', ''))
const isoDate = fc
  .date({ min: new Date('0001-01-01'), max: new Date('9999-12-31'), noInvalidDate: true })
  .map((value) => value.toISOString())
const COLUMNS = {
  text,
  'varchar(40)': text,
  'char(12)': fc.string({ maxLength: 12 }).map((value) => value.replaceAll('\0', '')),
  bigint: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(String),
  numeric: fc.oneof(
    fc.constantFrom('NaN', 'Infinity', '-Infinity', '0.000', '1e-30'),
    fc.tuple(fc.bigInt(), fc.nat(99999)).map(([whole, part]) => `${whole}.${part}`),
  ),
  float8: fc.double().map((value) => (Object.is(value, -0) ? '-0' : String(value))),
  float4: fc.float().map((value) => (Object.is(value, -0) ? '-0' : String(value))),
  boolean: fc.boolean().map(String),
  bytea: fc.uint8Array({ maxLength: 40 }).map((value) => `\\x${Buffer.from(value).toString('hex')}`),
  timestamptz: isoDate,
  timestamp: isoDate,
  date: isoDate,
  interval: fc
    .tuple(fc.integer({ min: -999, max: 999 }), fc.integer(), fc.integer())
    .map(([m, d, us]) => `${m} mons ${d % 1000} days ${us} microseconds`),
  uuid: fc.uuid(),
  json: fc.json().filter((value) => !value.includes('\\u0000')),
  jsonb: fc.json().filter((value) => !/\\u(0000|d[89a-f])/i.test(value)),
  'text[]': fc.array(fc.option(text), { maxLength: 5 }),
  'int[]': fc.array(fc.option(fc.integer()), { maxLength: 5 }),
  int4range: fc
    .tuple(fc.integer({ min: -1000, max: 0 }), fc.integer({ min: 1, max: 1000 }))
    .map(([low, high]) => `[${low},${high})`),
  inet: fc.ipV4(),
} satisfies Record<string, fc.Arbitrary<unknown>>
type ColumnType = keyof typeof COLUMNS

const column = fc.record({
  name: fc.string({ unit: 'grapheme', minLength: 1, maxLength: 15 }).map((value) => value.replaceAll('\0', '_')),
  type: fc.constantFrom(...(Object.keys(COLUMNS) as ColumnType[])),
})
const table = fc
  .uniqueArray(column, { maxLength: 8, selector: ({ name }) => name })
  .filter((columns) =>
    columns.every(
      ({ name }) => !['tenant_id', 'ctid', 'xmin', 'xmax', 'cmin', 'cmax', 'tableoid', 'the_row'].includes(name),
    ),
  )
  .chain((columns) =>
    fc.record({
      columns: fc.constant(columns),
      partitioned: fc.boolean(),
      rows: fc.array(
        fc.tuple(...columns.map(({ type }) => fc.option(COLUMNS[type] as fc.Arbitrary<unknown>, { freq: 4 }))),
        { maxLength: 6 },
      ),
    }),
  )

test('random tables and values', { timeout: 120_000 }, async () => {
  const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`
  await fc.assert(
    fc.asyncProperty(fc.array(table, { minLength: 1, maxLength: 3 }), async (tables) => {
      const [source, copy] = [`a_${++run}`, `b_${run}`]
      await rowhouse.tenants.provision(source)
      const names: string[] = []
      try {
        for (const [index, { columns, partitioned, rows }] of tables.entries()) {
          const name = `t${run}_${index}`
          names.push(name)
          await owner.query(
            `create table ${name} (tenant_id text not null${columns.map((c) => `, ${quoted(c.name)} ${c.type}`).join('')})`,
          )
          await protect(owner, name, { partition: partitioned })
          await owner.query(`begin; set local role rowhouse_app; set local app.tenant_id = '${source}'`)
          for (const row of rows) {
            const values = columns.map((c, at) => `, $${at + 1}::${c.type}`).join('')
            await owner.query(`insert into ${name} select '${source}'${values}`, row as unknown[])
          }
          await owner.query('commit')
        }
        const { data, receipt } = await exportToMemory(rowhouse, source)
        const imported = await rowhouse.tenants.import(streamOf(data), { as: copy })
        expect(imported.contentHash).toBe(receipt.contentHash)
        expect(await rowhouse.tenants.contentHash(copy)).toBe(await rowhouse.tenants.contentHash(source))
        for (const name of names) expect(await textsOf(owner, name, copy)).toEqual(await textsOf(owner, name, source))
      } finally {
        await owner.query('rollback')
        for (const name of names) await owner.query(`drop table if exists ${name}`)
      }
    }),
    { numRuns: Number(process.env.RUNS ?? 25), endOnFailure: true },
  )
})
