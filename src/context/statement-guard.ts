import { createRowhouseError } from '../errors.ts'

/**
 * Refuses, before it is sent, a statement that would end the tenant's transaction or change who it runs as.
 *
 * This is the first of two walls and catches mistakes early, with a clear message. The second looks at what the server
 * did: its command tag and its transaction status after each statement.
 */
export function guardStatement(sql: string): void {
  if (sql.includes('\0')) throw createRowhouseError('invalid_argument', 'SQL text contains a zero byte.')
  if (HARMLESS.test(sql)) return
  const [first, ...rest] = leadingWords(sql)
  const [second, third] = rest
  switch (first) {
    case 'begin':
    case 'start':
    case 'commit':
    case 'end':
    case 'abort':
      throw transactionControl(first)
    case 'rollback':
      // "rollback to [savepoint] x" and "rollback work to ..." stay inside the transaction.
      if (second === 'to') return
      if ((second === 'work' || second === 'transaction') && third === 'to') return
      throw transactionControl(first)
    case 'prepare':
      if (second === 'transaction') throw transactionControl('prepare transaction')
      return
    case 'set': {
      // set [local | session] role ..., set [local] session authorization ...
      const target = rest.find((word) => word !== 'local' && word !== 'session')
      if (isIdentity(target)) throw identityChange(`set ${target}`)
      return
    }
    case 'reset':
      if (second === 'all' || isIdentity(second === 'session' ? third : second)) throw identityChange(`reset ${second}`)
      return
    case 'copy':
      if (/\bstdin\b/i.test(sql)) {
        throw createRowhouseError(
          'invalid_argument',
          'COPY FROM STDIN is refused on tables with row-level security; insert arrays with unnest instead.',
        )
      }
  }
}

/** What almost every statement begins with. */
const HARMLESS = /^\s*(?:select|with|insert|update|delete)\s/i

/** Whether the command tag of a statement says that it ended, or began, a transaction. */
export function isTransactionTag(tag: string | undefined, sql: string): boolean {
  switch (tag) {
    case 'COMMIT':
    case 'BEGIN':
    case 'START TRANSACTION':
    case 'PREPARE TRANSACTION':
      return true
    case 'ROLLBACK':
      return leadingWords(sql)[0] !== 'rollback'
    default:
      return false
  }
}

/** The settings that say who a transaction runs as. */
function isIdentity(setting: string | undefined): boolean {
  return (
    setting === 'role' || setting === 'authorization' || setting === 'app' || (setting?.startsWith('app.') ?? false)
  )
}

function transactionControl(statement: string): Error {
  return createRowhouseError(
    'connection_tainted',
    `"${statement}" is refused here: the transaction of a tenant is begun and ended by rowhouse alone.`,
  )
}

function identityChange(statement: string): Error {
  return createRowhouseError(
    'connection_tainted',
    `"${statement}" is refused here: it would change who the transaction runs as.`,
    { hint: 'Enter the tenant with withTenant, and give userId and requestId as its options.' },
  )
}

const SPACE = '[ \\t\\n\\r\\f\\v;]'
const WORD = /(?:"((?:[^"]|"")*)"|([A-Za-z_][\w$]*))(\s*\.\s*(?:"(?:[^"]|"")*"|[A-Za-z_][\w$]*))?/y
const SPACES = new RegExp(`${SPACE}+`, 'y')
const LINE_COMMENT = /--[^\n\r]*/y

/** The first words in lower case, as many as the guard looks at; whitespace, semicolons and (nested) comments around them are skipped. */
function leadingWords(sql: string): (string | undefined)[] {
  const words: string[] = []
  let position = 0
  while (words.length < 4) {
    position = skipSpaceAndComments(sql, position)
    WORD.lastIndex = position
    const match = WORD.exec(sql)
    if (match === null) break
    words.push(`${match[1] ?? match[2]}${(match[3] ?? '').replace(/[\s"]/g, '')}`.toLowerCase())
    position = WORD.lastIndex
  }
  return words
}

function skipSpaceAndComments(sql: string, start: number): number {
  let position = start
  for (;;) {
    const next = skipMatch(LINE_COMMENT, sql, skipBlockComment(sql, skipMatch(SPACES, sql, position)))
    if (next === position) return position
    position = next
  }
}

function skipMatch(pattern: RegExp, sql: string, position: number): number {
  pattern.lastIndex = position
  return pattern.test(sql) ? pattern.lastIndex : position
}

/** Block comments nest in Postgres. An unclosed one reaches the end of the text, as the server sees it. */
function skipBlockComment(sql: string, start: number): number {
  if (!sql.startsWith('/*', start)) return start
  let depth = 1
  let position = start + 2
  while (depth > 0 && position < sql.length) {
    if (sql.startsWith('/*', position)) {
      depth++
      position += 2
    } else if (sql.startsWith('*/', position)) {
      depth--
      position += 2
    } else {
      position++
    }
  }
  return position
}
