/**
 * Writes statements without parameters as messages of the extended protocol: Parse, Bind and Execute of each, all on
 * the unnamed statement and portal. One buffer for all of them costs a third of what one write for each message does.
 */
export function serializeStatements(statements: readonly string[]): Buffer {
  const cached = CACHE.get(statements)
  if (cached !== undefined) return cached
  const buffer = Buffer.concat(statements.flatMap((sql) => [serializeParse(sql), BIND_AND_EXECUTE]))
  CACHE.set(statements, buffer)
  return buffer
}

/** By the list itself: those of the clean-up and of a handle's identity are the same for every transaction. */
const CACHE = new WeakMap<readonly string[], Buffer>()

/** `P`, length, statement name, SQL, number of parameter types. */
function serializeParse(sql: string): Buffer {
  const length = 4 + 1 + Buffer.byteLength(sql) + 1 + 2
  const message = Buffer.alloc(1 + length)
  message.write('P', 0)
  message.writeInt32BE(length, 1)
  message.write(sql, 6)
  return message
}

/** Bind: portal, statement, no parameter formats, no parameters, no result formats. Execute: portal, all rows. */
const BIND_AND_EXECUTE = Buffer.from([
  ...[0x42, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0],
  ...[0x45, 0, 0, 0, 9, 0, 0, 0, 0, 0],
])
