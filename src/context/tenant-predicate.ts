import type { RootOperationNode } from 'kysely'
import { TenantPredicateTransformer } from './tenant-predicate-transformer.ts'

/** A table that `rowhouse.protect_table` registered. */
export interface TenantTable {
  readonly schema: string
  readonly table: string
  /** The tenant column. */
  readonly column: string
  /** The type of the tenant column. */
  readonly type: string
  /** Whether the name means this table without its schema. */
  readonly visible: boolean
}

const TRANSFORMERS = new WeakMap<readonly TenantTable[], TenantPredicateTransformer>()

/**
 * Adds `<table>.tenant_id = $n` wherever a query reads, updates or deletes rows of a tenant table.
 *
 * The policies say the same, but only when the query runs; written in the query, Postgres plans for the tenant: it
 * leaves out the partitions of others and uses the statistics of this tenant. The predicate never changes a result. It
 * stands where the policy filters, at the rows of the table: in `where`, or in the `on` of the join that adds them. It
 * is left out where there is no such place (right and full joins), inside raw SQL, and for names that may mean a CTE.
 */
export function addTenantPredicate(
  node: RootOperationNode,
  tables: readonly TenantTable[],
  tenantId: string,
): RootOperationNode {
  let transformer = TRANSFORMERS.get(tables)
  if (transformer === undefined) {
    transformer = new TenantPredicateTransformer(tables)
    TRANSFORMERS.set(tables, transformer)
  }
  return transformer.transform(node, tenantId)
}
