import { createHash } from 'node:crypto'
import { createRowhouseError } from '../errors.ts'

/**
 * A position in a list, as text. The scope says which list: tenant, session, filters. A cursor of another list is
 * refused; one that was forged for this list leads nowhere but to rows of this list.
 */
export function encodeCursor(scope: readonly unknown[], position: readonly string[]): string {
  return Buffer.from(JSON.stringify([digest(scope), ...position])).toString('base64url')
}

/** The position that a cursor of this scope was made of. */
export function decodeCursor(cursor: string, scope: readonly unknown[], matches: readonly RegExp[]): string[] {
  let parts: unknown
  try {
    parts = JSON.parse(Buffer.from(cursor, 'base64url').toString())
  } catch {}
  if (Array.isArray(parts) && parts.length === matches.length + 1 && parts[0] === digest(scope)) {
    const position = parts.slice(1)
    if (position.every((part, index) => typeof part === 'string' && matches[index]!.test(part))) return position
  }
  throw createRowhouseError('invalid_cursor', 'The cursor is none of this list.')
}

function digest(scope: readonly unknown[]): string {
  return createHash('sha256').update(JSON.stringify(scope)).digest('base64url').slice(0, 22)
}
