import type { PreludeStatement } from './prelude.ts'

/**
 * Writes statements of our own as messages of the extended protocol: Parse, Bind and Execute of each, all on
 * the unnamed statement and portal. One buffer for all of them costs a third of what one write for each message does.
 */
export function serializeStatements(statements: readonly PreludeStatement[]): Buffer {
  let buffer = CACHE.get(statements)
  if (buffer === undefined) {
    buffer = writeStatements(statements)
    CACHE.set(statements, buffer)
  }
  return buffer
}

/** By the list itself: those of the clean-up and of a handle's identity are the same for every transaction. */
const CACHE = new WeakMap<readonly PreludeStatement[], Buffer>()

function writeStatements(statements: readonly PreludeStatement[]): Buffer {
  const buffer = Buffer.allocUnsafe(statements.reduce((length, statement) => length + longest(statement), 0))
  let end = 0
  for (const statement of statements) {
    const isPlain = typeof statement === 'string'
    end = writeParse(buffer, end, isPlain ? statement : statement.sql)
    end = isPlain ? end + BIND.copy(buffer, end) : writeBind(buffer, end, statement.parameter)
    end += EXECUTE.copy(buffer, end)
  }
  return buffer.subarray(0, end)
}

/** The most bytes that the messages of a statement can take: three for each character, and what is around them. */
function longest(statement: PreludeStatement): number {
  const characters =
    typeof statement === 'string' ? statement.length : statement.sql.length + statement.parameter.length
  return 64 + 3 * characters
}

/** `P`, length, statement name, SQL, number of parameter types. */
function writeParse(buffer: Buffer, start: number, sql: string): number {
  buffer[start] = 0x50
  buffer[start + 5] = 0
  const sqlEnd = start + 6 + buffer.write(sql, start + 6)
  buffer.fill(0, sqlEnd, sqlEnd + 3)
  return writeLength(buffer, start, sqlEnd + 3)
}

/** `B`, length, portal, statement, no parameter formats: text, one parameter with its length, no result formats. */
function writeBind(buffer: Buffer, start: number, parameter: string): number {
  buffer.fill(0, start, start + 15)
  buffer[start] = 0x42
  buffer[start + 10] = 1
  const bytes = buffer.write(parameter, start + 15)
  buffer.writeInt32BE(bytes, start + 11)
  buffer.fill(0, start + 15 + bytes, start + 17 + bytes)
  return writeLength(buffer, start, start + 17 + bytes)
}

/** The length of a message counts itself, but not the letter in front of it. Returns the end of the message. */
function writeLength(buffer: Buffer, start: number, end: number): number {
  buffer.writeInt32BE(end - start - 1, start + 1)
  return end
}

/** Without parameters. */
const BIND = Buffer.from([0x42, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0])

/** Portal, all rows. */
const EXECUTE = Buffer.from([0x45, 0, 0, 0, 9, 0, 0, 0, 0, 0])
