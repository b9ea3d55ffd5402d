import type { Filter } from '../../src/index.ts'

type Json = string | number | boolean | null | Json[] | { [key: string]: Json }

/** What a filter means, said once more in a few lines: the model that the database is compared with. */
export function matches(filter: Filter, metadata: { [key: string]: Json }): boolean {
  return Object.entries(filter).every(([key, value]) => {
    if (key === '$and') return (value as Filter[]).every((part) => matches(part, metadata))
    if (key === '$or') return (value as Filter[]).some((part) => matches(part, metadata))
    if (key === '$not') return !matches(value as Filter, metadata)
    return matchesAt(metadata, [key], value as Json)
  })
}

function matchesAt(metadata: Json, path: string[], wanted: Json): boolean {
  if (!hasOperator(wanted))
    return contains(
      metadata,
      path.reduceRight<Json>((inner, key) => ({ [key]: inner }), wanted),
    )
  return Object.entries(wanted).every(([key, operand]) => {
    if (key === '$not') return !matchesAt(metadata, path, operand)
    if (!key.startsWith('$')) return matchesAt(metadata, [...path, key], operand)
    return compare(key, valueAt(metadata, path), operand)
  })
}

function compare(operator: string, value: Json | undefined, operand: Json): boolean {
  switch (operator) {
    case '$eq':
      return value !== undefined && equal(value, operand)
    case '$ne':
      return !compare('$eq', value, operand)
    case '$in':
      return (operand as Json[]).some((one) => compare('$eq', value, one))
    case '$nin':
      return !compare('$in', value, operand)
    case '$exists':
      return (value !== undefined) === operand
  }
  if (typeof value !== typeof operand || (typeof value !== 'number' && typeof value !== 'string')) return false
  const order = typeof value === 'number' ? value - (operand as number) : byCodePoint(value, operand as string)
  return { $gt: order > 0, $gte: order >= 0, $lt: order < 0, $lte: order <= 0 }[operator] ?? false
}

/** As bytes of UTF-8, which is the order of code points. */
const byCodePoint = (one: string, other: string) => Buffer.compare(Buffer.from(one), Buffer.from(other))

/** A step into an array is its number, as of the operator #>. */
function valueAt(metadata: Json, path: string[]): Json | undefined {
  let value: Json | undefined = metadata
  for (const key of path) {
    if (Array.isArray(value)) value = /^-?\d+$/.test(key) ? value.at(Number(key)) : undefined
    else if (isObject(value)) value = Object.hasOwn(value, key) ? value[key] : undefined
    else return undefined
  }
  return value
}

const isObject = (value: Json | undefined): value is { [key: string]: Json } =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const hasOperator = (value: Json): value is { [key: string]: Json } =>
  isObject(value) && Object.entries(value).some(([key, inner]) => key.startsWith('$') || hasOperator(inner))

function equal(one: Json, other: Json): boolean {
  if (Array.isArray(one) && Array.isArray(other)) {
    return one.length === other.length && one.every((value, index) => equal(value, other[index]!))
  }
  if (isObject(one) && isObject(other)) {
    const keys = Object.keys(one)
    return (
      keys.length === Object.keys(other).length && keys.every((key) => key in other && equal(one[key]!, other[key]!))
    )
  }
  return one === other
}

/** As of the operator @>, whose one exception (an array contains a plain value) no nested filter meets. */
function contains(value: Json, wanted: Json): boolean {
  if (isObject(wanted)) {
    return (
      isObject(value) &&
      Object.entries(wanted).every(([key, inner]) => Object.hasOwn(value, key) && contains(value[key]!, inner))
    )
  }
  if (Array.isArray(wanted)) {
    return Array.isArray(value) && wanted.every((inner) => value.some((one) => contains(one, inner)))
  }
  return value === wanted
}
