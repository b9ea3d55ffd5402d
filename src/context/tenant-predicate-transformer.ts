import {
  AliasNode,
  AndNode,
  BinaryOperationNode,
  ColumnNode,
  type DeleteQueryNode,
  IdentifierNode,
  type InsertQueryNode,
  type JoinNode,
  type MergeQueryNode,
  OnNode,
  type OperationNode,
  OperationNodeTransformer,
  OperatorNode,
  ParensNode,
  type QueryId,
  type RawNode,
  ReferenceNode,
  type RootOperationNode,
  type SelectQueryNode,
  TableNode,
  type UpdateQueryNode,
  ValueNode,
  WhereNode,
  type WithNode,
} from 'kysely'
import type { TenantTable } from './tenant-predicate.ts'

/** Where a query names tables, before anything was changed. */
interface TableExpressions {
  /** What `update` and `delete` change. */
  readonly target?: OperationNode | undefined
  /** What `from` and `using` list. */
  readonly from?: readonly OperationNode[] | undefined
  readonly joins?: readonly JoinNode[] | undefined
}

const QUERY_ID = {} as QueryId
const EQUALS = OperatorNode.create('=')

/** See `addTenantPredicate`. Not reentrant: a query is transformed in one go. */
export class TenantPredicateTransformer extends OperationNodeTransformer {
  /** By schema and name; tables that are visible without schema by name alone too. */
  readonly #tables = new Map<string, TenantTable>()
  /** Names of the CTEs of the queries around the current node. */
  #ctes: ReadonlySet<string> = new Set()
  #tenantId = ''

  constructor(tables: readonly TenantTable[]) {
    super()
    for (const table of tables) {
      this.#tables.set(tableKey(table.schema, table.table), table)
      if (table.visible) this.#tables.set(tableKey(undefined, table.table), table)
    }
  }

  transform(node: RootOperationNode, tenantId: string): RootOperationNode {
    this.#tenantId = tenantId
    this.#ctes = new Set()
    return this.transformNode(node, QUERY_ID)
  }

  protected override transformSelectQuery(node: SelectQueryNode, queryId: QueryId): SelectQueryNode {
    return this.#withCtes(node.with, () =>
      this.#addPredicates(
        this.#transformInside(node, () => super.transformSelectQuery(node, queryId)),
        {
          from: node.from?.froms,
          joins: node.joins,
        },
      ),
    )
  }

  protected override transformUpdateQuery(node: UpdateQueryNode, queryId: QueryId): UpdateQueryNode {
    return this.#withCtes(node.with, () =>
      this.#addPredicates(
        this.#transformInside(node, () => super.transformUpdateQuery(node, queryId)),
        {
          target: node.table,
          from: node.from?.froms,
          joins: node.joins,
        },
      ),
    )
  }

  protected override transformDeleteQuery(node: DeleteQueryNode, queryId: QueryId): DeleteQueryNode {
    return this.#withCtes(node.with, () =>
      this.#addPredicates(
        this.#transformInside(node, () => super.transformDeleteQuery(node, queryId)),
        {
          target: node.from.froms.length === 1 ? node.from.froms[0] : undefined,
          from: node.using?.tables,
          joins: node.joins,
        },
      ),
    )
  }

  protected override transformInsertQuery(node: InsertQueryNode, queryId: QueryId): InsertQueryNode {
    return this.#withCtes(node.with, () => super.transformInsertQuery(node, queryId))
  }

  protected override transformMergeQuery(node: MergeQueryNode, queryId: QueryId): MergeQueryNode {
    return this.#withCtes(node.with, () => super.transformMergeQuery(node, queryId))
  }

  /** A query without others inside it is changed at the top alone: a copy of every node takes most of the time. */
  #transformInside<T extends OperationNode>(query: T, transform: () => T): T {
    return Object.values(query).some(holdsQuery) ? transform() : query
  }

  /** The names in raw SQL are unknown: a query inside it may read a CTE that the raw part defines. */
  protected override transformRaw(node: RawNode): RawNode {
    return node
  }

  /**
   * Names of a `with` hide tables in the whole query. Bodies of CTEs don't see the later ones, nor themselves; taking
   * them as hidden there as well only costs a predicate.
   */
  #withCtes<T>(node: WithNode | undefined, transform: () => T): T {
    if (node === undefined) return transform()
    const outer = this.#ctes
    this.#ctes = new Set([...outer, ...node.expressions.map(({ name }) => name.table.table.identifier.name)])
    try {
      return transform()
    } finally {
      this.#ctes = outer
    }
  }

  #addPredicates<T extends { readonly where?: WhereNode; readonly joins?: readonly JoinNode[] }>(
    query: T,
    { target, from = [], joins = [] }: TableExpressions,
  ): T {
    const inWhere: (OperationNode | undefined)[] = [target && this.#predicate(target)]
    // After a right or full join, rows that are missing on the left stand there as nulls and must pass.
    const lastOuterJoin = joins.findLastIndex(({ joinType }) => joinType === 'RightJoin' || joinType === 'FullJoin')
    if (lastOuterJoin === -1) inWhere.push(...from.map((table) => this.#predicate(table)))
    const newJoins = joins.map((join, index) => {
      const transformed = query.joins![index]!
      const predicate = this.#predicate(join.table)
      if (predicate === undefined) return transformed
      switch (join.joinType) {
        case 'InnerJoin':
        case 'LeftJoin':
        case 'LateralInnerJoin':
        case 'LateralLeftJoin':
          if (transformed.on === undefined) return transformed
          return { ...transformed, on: OnNode.create(conjunction([predicate], transformed.on.on)) }
        case 'CrossJoin':
          if (index > lastOuterJoin) inWhere.push(predicate)
          return transformed
        default:
          return transformed
      }
    })
    const predicates = inWhere.filter((predicate) => predicate !== undefined)
    return {
      ...query,
      ...(newJoins.length > 0 ? { joins: newJoins } : {}),
      ...(predicates.length > 0 ? { where: WhereNode.create(conjunction(predicates, query.where?.where)) } : {}),
    }
  }

  /** The predicate for a table expression, if it is a tenant table. */
  #predicate(expression: OperationNode): OperationNode | undefined {
    const named = AliasNode.is(expression) ? expression.node : expression
    if (!TableNode.is(named)) return undefined
    const { schema, identifier } = named.table
    if (schema === undefined && this.#ctes.has(identifier.name)) return undefined
    const table = this.#tables.get(tableKey(schema?.name, identifier.name))
    if (table === undefined || !isValueOfType(this.#tenantId, table.type)) return undefined
    let reference: TableNode = named
    if (AliasNode.is(expression)) {
      if (!IdentifierNode.is(expression.alias)) return undefined
      reference = TableNode.create(expression.alias.name)
    }
    return BinaryOperationNode.create(
      ReferenceNode.create(ColumnNode.create(table.column), reference),
      EQUALS,
      ValueNode.create(this.#tenantId),
    )
  }
}

/** No name in Postgres contains a zero byte. */
function tableKey(schema: string | undefined, table: string): string {
  return schema === undefined ? table : `${schema}\0${table}`
}

const QUERIES = new Set<string>([
  'SelectQueryNode',
  'InsertQueryNode',
  'UpdateQueryNode',
  'DeleteQueryNode',
  'MergeQueryNode',
] satisfies RootOperationNode['kind'][])

/** What no query is looked for in: values, raw SQL, names. */
const LEAVES = new Set<string>([
  'ValueNode',
  'PrimitiveValueListNode',
  'RawNode',
  'TableNode',
  'ReferenceNode',
  'ColumnNode',
  'IdentifierNode',
  'OperatorNode',
] satisfies OperationNode['kind'][])

/** Whether a query is anywhere in what a node, or a list of nodes, consists of. */
function holdsQuery(part: unknown): boolean {
  if (typeof part !== 'object' || part === null) return false
  if (Array.isArray(part)) return part.some(holdsQuery)
  const { kind } = part as OperationNode
  if (LEAVES.has(kind)) return false
  if (QUERIES.has(kind)) return true
  for (const name in part) {
    if (holdsQuery((part as Record<string, unknown>)[name])) return true
  }
  return false
}

/** The predicates and what was there already, in parentheses: it may be an "or", or raw SQL. */
function conjunction(predicates: readonly OperationNode[], existing: OperationNode | undefined): OperationNode {
  const operands = existing === undefined ? predicates : [...predicates, ParensNode.create(existing)]
  return operands.reduce((left, right) => AndNode.create(left, right))
}

/** An id that the type of the column can't hold has no rows; what the policy says about it is not ours to change. */
function isValueOfType(tenantId: string, type: string): boolean {
  switch (type) {
    case 'uuid':
      return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(tenantId)
    case 'smallint':
      return isIntegerUpTo(tenantId, 2n ** 15n)
    case 'integer':
      return isIntegerUpTo(tenantId, 2n ** 31n)
    case 'bigint':
      return isIntegerUpTo(tenantId, 2n ** 63n)
    default:
      return true
  }
}

function isIntegerUpTo(text: string, bound: bigint): boolean {
  return /^-?\d{1,19}$/.test(text) && BigInt(text) < bound && BigInt(text) >= -bound
}
