import { createRowhouseError } from '../errors.ts'
import { storableJson } from './parse-text.ts'

const RANGES = ['$gt', '$gte', '$lt', '$lte']
const COLUMNS = ['$id', '$parentId', '$source', '$title']
const MAXIMUM_DEPTH = 16
const json = storableJson(65_536)

/** A filter as JSON, checked as the database checks it, so that a mistake costs no round trip. */
export function parseFilter(filter: unknown): string {
  const { success, data, error } = json.safeParse(filter)
  if (!success) throw invalid(error.issues[0]!.message)
  // What was sent is what is checked: dates have become strings, undefined entries are gone.
  checkFilter(JSON.parse(data), 1)
  return data
}

function checkFilter(filter: unknown, depth: number): void {
  if (!isObject(filter)) throw invalid('needs an object inside of $and, $or and $not')
  if (depth > MAXIMUM_DEPTH) throw invalid(`is nested more than ${MAXIMUM_DEPTH} levels deep`)
  for (const [key, value] of Object.entries(filter)) {
    if (key === '$and' || key === '$or') {
      if (!Array.isArray(value) || value.length === 0) throw invalid(`needs an array of filters for ${key}`)
      for (const part of value) checkFilter(part, depth + 1)
    } else if (key === '$not') {
      checkFilter(value, depth + 1)
    } else if (COLUMNS.includes(key)) {
      if (isObject(value)) checkField(value, 'column', depth)
    } else if (key.startsWith('$')) {
      throw unknownOperator(key)
    } else if (hasOperator(value)) {
      checkField(value, 'metadata', depth)
    }
  }
}

function checkField(entries: Record<string, unknown>, kind: 'column' | 'metadata', depth: number): void {
  if (depth > MAXIMUM_DEPTH) throw invalid(`is nested more than ${MAXIMUM_DEPTH} levels deep`)
  for (const [key, value] of Object.entries(entries)) {
    if (key === '$not') {
      if (!isObject(value)) throw invalid('needs an object for $not')
      checkField(value, kind, depth + 1)
    } else if (key.startsWith('$')) {
      checkOperator(key, value)
    } else if (kind === 'column') {
      throw invalid(`has "${key.slice(0, 50)}" where an operator belongs`)
    } else if (hasOperator(value)) {
      checkField(value, kind, depth + 1)
    }
  }
}

function checkOperator(operator: string, operand: unknown): void {
  if (operator === '$eq' || operator === '$ne') return
  if (operator === '$in' || operator === '$nin') {
    if (!Array.isArray(operand) || operand.length > 1000) {
      throw invalid(`needs an array of up to 1000 values for ${operator}`)
    }
  } else if (RANGES.includes(operator)) {
    if (typeof operand !== 'number' && typeof operand !== 'string') {
      throw invalid(`needs a number or a string for ${operator}`)
    }
  } else if (operator === '$exists') {
    if (typeof operand !== 'boolean') throw invalid('needs true or false for $exists')
  } else {
    throw unknownOperator(operator)
  }
}

/** Whether it, or an object inside of it, has a key that begins with $; arrays are values. */
function hasOperator(value: unknown): value is Record<string, unknown> {
  return isObject(value) && Object.entries(value).some(([key, inner]) => key.startsWith('$') || hasOperator(inner))
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function unknownOperator(operator: string): Error {
  return invalid(`has the unknown operator "${operator.slice(0, 50)}"`)
}

function invalid(problem: string): Error {
  return createRowhouseError('invalid_filter', `The filter ${problem}.`)
}
