import type { Kysely } from 'kysely'
import { TenantInactiveError, TenantSuspendedError } from '../errors.ts'

/**
 * Runs a statement of ours as the tenant; when the tenant is suspended or inactive, again in a transaction that only reads
 * or completes its books. Inside a transaction `booksDb` is undefined: that one was refused when it began.
 */
export async function evenIfSuspended<T>(
  db: Kysely<any>,
  booksDb: (() => Kysely<any>) | undefined,
  run: (db: Kysely<any>) => Promise<T>,
): Promise<T> {
  try {
    return await run(db)
  } catch (error) {
    const refused = error instanceof TenantSuspendedError || error instanceof TenantInactiveError
    if (!refused || booksDb === undefined) throw error
    return run(booksDb())
  }
}
