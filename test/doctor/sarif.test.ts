// SARIF 2.1.0: what the schema of the standard requires and allows of the objects that are used, and no other property.
import { join } from 'node:path'
import { expect, test } from 'vitest'
import * as z from 'zod'
import { runCommandLine } from '../../src/cli/run.ts'
import { loadLints } from '../../src/doctor/lint.ts'
import { SQL_FOLDER } from '../../src/migrate/sql-files.ts'
import { useAppTables } from '../isolation/support/app-tables.ts'
import { useClients } from '../isolation/support/clients.ts'
import { useDatabase } from '../setup/database.ts'

const database = useDatabase()
useAppTables(database)
const clients = useClients(database, 'owner')

const message = z.strictObject({ text: z.string().min(1) })
const level = z.enum(['none', 'note', 'warning', 'error'])

const sarif = z.strictObject({
  $schema: z.url(),
  version: z.literal('2.1.0'),
  runs: z.array(
    z.strictObject({
      tool: z.strictObject({
        driver: z.strictObject({
          name: z.string().min(1),
          semanticVersion: z.string().regex(/^\d+\.\d+\.\d+/),
          informationUri: z.url(),
          rules: z.array(
            z.strictObject({
              id: z.string().min(1),
              shortDescription: message,
              fullDescription: message,
              help: message,
              defaultConfiguration: z.strictObject({ level }),
            }),
          ),
        }),
      }),
      columnKind: z.enum(['utf16CodeUnits', 'unicodeCodePoints']),
      results: z.array(
        z.strictObject({
          ruleId: z.string(),
          ruleIndex: z.int().min(0),
          level,
          message,
          locations: z.array(
            z.strictObject({
              logicalLocations: z.array(
                z.strictObject({ name: z.string(), fullyQualifiedName: z.string(), kind: z.string() }),
              ),
            }),
          ),
          partialFingerprints: z.record(z.string(), z.string()),
        }),
      ),
    }),
  ),
})

async function doctor(...options: string[]) {
  let text = ''
  const line = (printed = '') => {
    text += printed
  }
  const exitCode = await runCommandLine(['doctor', '--ignore', 'outdated_server', ...options], {
    output: { line, note: line, style: (_style, printed) => printed },
    environment: { DATABASE_URL: database.url('owner') },
  })
  return { exitCode, text }
}

test('a database in order and one with a hole are valid logs, with the exit codes of the other formats', async () => {
  const clean = await doctor('--sarif')
  expect(clean.exitCode).toBe(0)
  const [run] = sarif.parse(JSON.parse(clean.text)).runs
  expect(run!.results).toEqual([])
  expect(run!.tool.driver.rules.map(({ id }) => id)).toEqual(
    (await loadLints(join(SQL_FOLDER, 'doctor'))).map(({ name }) => name),
  )

  await clients.owner.query('alter table invoices disable row level security; create table drafts (tenant_id text)')
  const open = await doctor('--sarif')
  expect(open.exitCode).toBe(1)
  const { results, tool } = sarif.parse(JSON.parse(open.text)).runs[0]!
  expect(results.map(({ ruleId, level }) => [ruleId, level])).toEqual([
    ['row_security_off', 'error'],
    ['unregistered_table', 'warning'],
  ])
  for (const { ruleId, ruleIndex } of results) expect(tool.driver.rules[ruleIndex]!.id).toBe(ruleId)
  expect(results[0]).toMatchObject({
    locations: [{ logicalLocations: [{ fullyQualifiedName: `${database.name}/public.invoices`, kind: 'table' }] }],
    partialFingerprints: { 'rowhouse/v1': 'row_security_off:public.invoices' },
  })

  await clients.owner.query("select rowhouse.protect_table('invoices')")
  const warned = await doctor('--sarif')
  expect(warned.exitCode).toBe(0)
  expect(sarif.parse(JSON.parse(warned.text)).runs[0]!.results).toHaveLength(1)
  await clients.owner.query('drop table drafts')
})

test('--json is the list of findings, and both formats at once are refused', async () => {
  expect(JSON.parse((await doctor('--json')).text)).toEqual([])
  expect(await doctor('--json', '--sarif')).toMatchObject({ exitCode: 2 })
  expect(await doctor('--level', 'fatal')).toMatchObject({ exitCode: 2 })
})
