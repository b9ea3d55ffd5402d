import pg from 'pg'

/** A name as an SQL identifier, quoted where it must be, for statements that people copy. */
export function quoteIdentifier(name: string): string {
  return /^[a-z_][a-z0-9_]*$/.test(name) ? name : pg.escapeIdentifier(name)
}
