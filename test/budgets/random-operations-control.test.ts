// The control of the random operations: books that count less than what was used, so that tenants overspend, are noticed.
import { expect, test } from 'vitest'
import { useDatabase } from '../setup/database.ts'
import { runRandomOperations } from './run-random-operations.ts'

const database = useDatabase({ needs: ['parallelBackends', 'superuser'] })

test('an overspend is noticed', { timeout: 120_000 }, async () => {
  const superuser = await database.connect('superuser')
  const { rows } = await superuser.query<{ source: string }>(
    `select pg_get_functiondef(oid) as source from pg_proc
      where proname = 'book_quotas' and pronamespace = 'rowhouse'::regnamespace`,
  )
  const { source } = rows[0]!
  expect(source).toContain('+ b.used')
  await superuser.query(source.replaceAll('+ b.used', '+ b.used * 0.5'))
  const urls = {
    app: database.url('app'),
    operator: database.url('operator'),
    superuser: database.url('superuser'),
  }
  const { problems } = await runRandomOperations({ urls, operations: 500, seed: 7 })
  expect(problems.join('\n')).toContain('settled and overrun are not what usage events say')
})
