import type { PreludeStatement } from './prelude.ts'

/**
 * Writes statements of our own as messages of the extended protocol: Parse, Bind and Execute of each, all on
 * the unnamed statement and portal. One buffer for all of them costs a third of what one write for each message does.
 */
export function serializeStatements(statements: readonly PreludeStatement[]): Buffer {
  const cached = CACHE.get(statements)
  if (cached !== undefined) return cached
  const buffer = Buffer.concat(statements.flatMap(serializeStatement))
  CACHE.set(statements, buffer)
  return buffer
}

/** By the list itself: those of the clean-up and of a handle's identity are the same for every transaction. */
const CACHE = new WeakMap<readonly PreludeStatement[], Buffer>()

function serializeStatement(statement: PreludeStatement): Buffer[] {
  if (typeof statement === 'string') return [serializeParse(statement), BIND, EXECUTE]
  return [serializeParse(statement.sql), serializeBind(statement.parameter), EXECUTE]
}

/** `P`, length, statement name, SQL, number of parameter types. */
function serializeParse(sql: string): Buffer {
  const length = 4 + 1 + Buffer.byteLength(sql) + 1 + 2
  const message = Buffer.alloc(1 + length)
  message.write('P', 0)
  message.writeInt32BE(length, 1)
  message.write(sql, 6)
  return message
}

/** `B`, length, portal, statement, no parameter formats: text, one parameter with its length, no result formats. */
function serializeBind(parameter: string): Buffer {
  const bytes = Buffer.byteLength(parameter)
  const message = Buffer.alloc(1 + 4 + 1 + 1 + 2 + 2 + 4 + bytes + 2)
  message.write('B', 0)
  message.writeInt32BE(message.length - 1, 1)
  message.writeInt16BE(1, 9)
  message.writeInt32BE(bytes, 11)
  message.write(parameter, 15)
  return message
}

/** Without parameters. */
const BIND = Buffer.from([0x42, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0])

/** Portal, all rows. */
const EXECUTE = Buffer.from([0x45, 0, 0, 0, 9, 0, 0, 0, 0, 0])
