import { randomBytes, randomInt, randomUUID } from 'node:crypto'

/** An id that no tenant of the database has, and that occurs nowhere else: a value of a tenant column of this type. */
export function createTenantId(columnType: string): string {
  switch (columnType) {
    case 'uuid':
      return randomUUID()
    case 'integer':
      return String(randomInt(2 ** 30, 2 ** 31))
    case 'bigint':
      return String(randomInt(2 ** 40, 2 ** 47))
    default:
      return `test-${randomBytes(8).toString('hex')}`
  }
}

/**
 * Two ids that look alike, so that a comparison that is not exact takes one for the other: they differ in their last
 * character only, and texts only in whether it is a capital.
 */
export function createTenantPair(columnType: string): { readonly own: string; readonly other: string } {
  const own = createTenantId(columnType)
  switch (columnType) {
    case 'uuid': {
      const last = Number.parseInt(own.at(-1)!, 16)
      return { own, other: `${own.slice(0, -1)}${(last ^ 1).toString(16)}` }
    }
    case 'integer':
    case 'bigint':
      return { own, other: String(BigInt(own) ^ 1n) }
    default:
      return { own: `${own}A`, other: `${own}a` }
  }
}
