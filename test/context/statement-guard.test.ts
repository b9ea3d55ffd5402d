import { describe, expect, test } from 'vitest'
import { guardStatement, isTransactionTag } from '../../src/context/statement-guard.ts'

describe('refused before it is sent', () => {
  test.each([
    'commit',
    'COMMIT;',
    '  \n\t commit and chain',
    '-- note\ncommit',
    '/* a */ commit',
    '/* a /* nested */ b */commit',
    '--a\r\n--b\n/* c */;; rollback',
    'begin',
    'start transaction isolation level serializable',
    'end',
    'abort',
    'rollback',
    'rollback and chain',
    'rollback work',
    "rollback prepared 'x'",
    "commit prepared 'x'",
    "prepare transaction 'x'",
    "prepare /* x */ transaction 'x'",
    'set role postgres',
    'set local role none',
    'set session role x',
    'set "role" = x',
    'set session authorization postgres',
    'set local session authorization postgres',
    "set app.tenant_id = 'globex'",
    "set local app.tenant_id = 'globex'",
    'set local "app"."tenant_id" = x',
    "set app . tenant_id to 'globex'",
    "set app/**/.tenant_id to 'globex'",
    'reset role',
    'reset all',
    'reset app.tenant_id',
    'reset session authorization',
  ])('%j', (sql) => {
    expect(() => guardStatement(sql)).toThrow(expect.objectContaining({ code: 'connection_tainted' }))
  })

  test.each(['select 1\0', 'copy t from stdin', ' COPY t (a) FROM STDIN'])('%j', (sql) => {
    expect(() => guardStatement(sql)).toThrow(expect.objectContaining({ code: 'invalid_argument' }))
  })
})

test.each([
  'select 1',
  '',
  ';',
  '-- only a comment',
  '/* unclosed',
  'savepoint a',
  'release a',
  'release savepoint a',
  'rollback to a',
  'rollback to savepoint a',
  'rollback work to savepoint a',
  'rollback transaction to a',
  'prepare q as select 1',
  "set local statement_timeout = '1s'",
  "set search_path = 'commit'",
  'set transaction isolation level serializable',
  'set constraints all deferred',
  'reset statement_timeout',
  'copy t to stdout',
  'select commit from t',
  'update commit set x = 1',
  'commitments',
  'with begin as (select 1) select * from begin',
])('let through: %j', (sql) => {
  expect(() => guardStatement(sql)).not.toThrow()
})

test('the second wall: what the server says it did', () => {
  for (const tag of ['COMMIT', 'BEGIN', 'START TRANSACTION', 'PREPARE TRANSACTION']) {
    expect(isTransactionTag(tag, 'call something()')).toBe(true)
  }
  expect(isTransactionTag('ROLLBACK', 'call something()')).toBe(true)
  expect(isTransactionTag('ROLLBACK', 'rollback to savepoint a')).toBe(false)
  expect(isTransactionTag('INSERT 0 1', 'insert')).toBe(false)
  expect(isTransactionTag(undefined, '')).toBe(false)
})
