import { createRowhouseError } from '../errors.ts'
import type { Rowhouse } from '../rowhouse.ts'
import type { ProvisionOptions } from '../tenants/tenants.ts'
import { createTenantId } from './tenant-id.ts'

export interface TestTenantOptions extends ProvisionOptions {
  /** Default: an id that no other tenant has. */
  readonly tenantId?: string | undefined
  /** Type of the tenant columns, which the id has to be a value of: `text`, `uuid`, `integer`, `bigint`. Default `text`. */
  readonly columnType?: 'text' | 'uuid' | 'integer' | 'bigint' | undefined
}

/** A tenant that is erased with everything that it has when the test is over. */
export interface TestTenant extends AsyncDisposable {
  readonly tenantId: string
  /** Erases the tenant. Calling it again is harmless. */
  erase(): Promise<void>
}

/** What is needed of a {@link Rowhouse}. */
type RowhouseOfTenants = Pick<Rowhouse, 'tenants'>

/**
 * Provisions a throw-away tenant, for tests that commit. Erasing it is a test of its own: it fails when a table holds
 * rows of the tenant that rowhouse doesn't know of.
 *
 * SQL: `select rowhouse.provision_tenant('test-...')`, later `select rowhouse.erase_tenant('test-...')`
 *
 * Errors: those of `rowhouse.tenants.provision` and `rowhouse.tenants.erase`.
 *
 * @example
 * ```ts
 * await using acme = await createTestTenant(rowhouse)
 * await rowhouse.withTenant(acme.tenantId, (db) => db.insertInto('invoices').values({ number: '1', amount: 5 }).execute())
 * ```
 */
export async function createTestTenant(
  { tenants }: RowhouseOfTenants,
  { tenantId, columnType = 'text', ...provisionOptions }: TestTenantOptions = {},
): Promise<TestTenant> {
  const id = tenantId ?? createTenantId(columnType)
  const { created } = await tenants.provision(id, provisionOptions)
  if (!created) throw createRowhouseError('invalid_argument', `Tenant "${id}" exists, and would be erased by the test.`)
  let erasure: Promise<void> | undefined
  const erase = () => {
    erasure ??= tenants.erase(id).then(() => {})
    return erasure
  }
  return { tenantId: id, erase, [Symbol.asyncDispose]: erase }
}

/**
 * Runs `fn` with the ids of throw-away tenants and erases them afterwards, whatever happened.
 *
 * SQL: `select rowhouse.provision_tenant('test-...')`, later `select rowhouse.erase_tenant('test-...')`
 *
 * Errors: the error of `fn`; an `AggregateError` when erasing failed as well; else that of the erasure.
 *
 * @example
 * ```ts
 * await withTestTenants(rowhouse, 2, async ([acme, globex]) => {
 *   await rowhouse.withTenant(acme, (db) => db.insertInto('invoices').values({ number: '1', amount: 5 }).execute())
 *   const seen = await rowhouse.query(globex, (db) => db.selectFrom('invoices').selectAll())
 *   if (seen.length > 0) throw new Error('another tenant sees the invoice')
 * })
 * ```
 */
export async function withTestTenants<const N extends number, T>(
  rowhouse: RowhouseOfTenants,
  count: N,
  fn: (tenantIds: TenantIds<N>) => Promise<T>,
  options: Omit<TestTenantOptions, 'tenantId'> = {},
): Promise<T> {
  if (!Number.isSafeInteger(count) || count < 1) {
    throw createRowhouseError('invalid_argument', 'The number of test tenants is a positive integer.')
  }
  const tenants: TestTenant[] = []
  const run = async (): Promise<T> => {
    while (tenants.length < count) tenants.push(await createTestTenant(rowhouse, options))
    return fn(tenants.map(({ tenantId }) => tenantId) as TenantIds<N>)
  }
  const [work] = await Promise.allSettled([run()])
  const failures: unknown[] = work.status === 'rejected' ? [work.reason] : []
  // One after the other: an erasure may wait for another one.
  for (const tenant of tenants) await tenant.erase().catch((error) => failures.push(error))
  if (failures.length > 1) throw new AggregateError(failures, 'The test failed, and so did the erasure of its tenants.')
  if (failures.length === 1) throw failures[0]
  return (work as PromiseFulfilledResult<T>).value
}

/** A tuple of this many ids, so that destructured ids are strings and not maybe undefined. */
type TenantIds<N extends number, Ids extends string[] = []> = number extends N
  ? string[]
  : Ids['length'] extends N
    ? Ids
    : TenantIds<N, [...Ids, string]>
