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
