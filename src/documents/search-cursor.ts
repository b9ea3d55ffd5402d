import { createHash } from 'node:crypto'
import { createRowhouseError } from '../errors.ts'
import type { ParsedSearch } from './parse-search.ts'

/**
 * A cursor says where a page begins, and of which search: a digest over tenant, collection and everything that decides
 * the order of hits. It names no data and gives no right; whose documents are searched says the transaction alone.
 */
export interface CursorScope {
  readonly tenantId: string
  readonly collection: string
  readonly search: ParsedSearch
}

export function writeCursor(scope: CursorScope, offset: number): string {
  return Buffer.from(`${offset}.${digest(scope)}`).toString('base64url')
}

/** Where the page begins. Fails with `invalid_cursor` for one of another search, collection or tenant. */
export function readCursor(scope: CursorScope, cursor: unknown): number {
  const match =
    typeof cursor === 'string' ? /^(\d{1,4})\.([\w-]+)$/.exec(Buffer.from(cursor, 'base64url').toString()) : null
  if (match === null) throw createRowhouseError('invalid_cursor', 'The cursor is none that a search returned.')
  if (match[2] !== digest(scope)) {
    throw createRowhouseError('invalid_cursor', 'The cursor belongs to another search, collection or tenant.')
  }
  return Number(match[1])
}

function digest({ tenantId, collection, search }: CursorScope): string {
  const { limit: _limit, text, embedding, mode, ...rest } = search
  // An embedding that was made from the text may differ a little each time.
  const position = embedding === undefined ? null : Array.from(embedding as ArrayLike<number>)
  return createHash('sha256')
    .update(JSON.stringify([tenantId, collection, mode, text ?? null, position, rest]))
    .digest('base64url')
    .slice(0, 32)
}
