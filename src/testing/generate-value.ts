import { randomBytes, randomInt, randomUUID } from 'node:crypto'
import type { ColumnShape } from './table-shape.ts'

/** A value as text, which the statement casts to the type of the column. */
export interface GeneratedValue {
  readonly text: string
  /** As it is printed where it turns up; undefined when the value could be anybody's. */
  readonly canary?: string | undefined
}

/**
 * A value that nobody else has, and by which it can be recognized where the type has room for that. Undefined when
 * nothing is known about the type.
 */
export function recognizableValue(column: ColumnShape, prefix: string): GeneratedValue | undefined {
  if (column.labels.length > 0) return { text: column.labels[randomInt(column.labels.length)]! }
  const length = maxLength(column)
  switch (column.baseType) {
    case 'text':
    case 'character varying':
    case 'character':
    case 'citext':
    case 'name': {
      const token = `${prefix}-${randomBytes(6).toString('hex')}`
      if (length >= token.length) return recognized(token)
      // From its end, which is random.
      const short = token.slice(-length)
      return length >= 8 ? recognized(short) : { text: short }
    }
    case 'uuid':
      return recognized(randomUUID())
    case 'bigint':
      return recognized(String(randomInt(10 ** 12, 10 ** 13)))
    case 'integer':
      return recognized(String(randomInt(10 ** 9, 2 * 10 ** 9)))
    case 'json':
    case 'jsonb': {
      const token = `${prefix}-${randomBytes(6).toString('hex')}`
      return { text: JSON.stringify({ value: token }), canary: token }
    }
    case 'bytea': {
      const hex = randomBytes(12).toString('hex')
      return { text: `\\x${hex}`, canary: hex }
    }
    default:
      return plainValue(column)
  }
}

/** The simplest value of a type, which most checks accept. Undefined when nothing is known about the type. */
export function plainValue(column: ColumnShape): GeneratedValue | undefined {
  const { baseType, labels } = column
  if (labels.length > 0) return { text: labels[0]! }
  const fixed = PLAIN[baseType]
  if (fixed !== undefined) return { text: fixed }
  switch (baseType) {
    case 'text':
    case 'character varying':
    case 'character':
    case 'citext':
    case 'name':
      return { text: 'a' }
    case 'uuid':
      return { text: randomUUID() }
    case 'bit':
    case 'bit varying':
      return { text: '1'.repeat(baseType === 'bit' && column.typeModifier > 0 ? column.typeModifier : 1) }
    case 'vector':
    case 'halfvec':
      return { text: `[${Array.from({ length: Math.max(column.typeModifier, 1) }, () => '0.5').join(',')}]` }
    default:
      return undefined
  }
}

/** As an array with this one element, where the column is an array. */
export function asColumnText({ isArray }: ColumnShape, value: string): string {
  return isArray ? `{"${value.replaceAll(/(["\\])/g, '\\$1')}"}` : value
}

const recognized = (text: string): GeneratedValue => ({ text, canary: text })

/** Characters that fit. */
function maxLength({ baseType, typeModifier }: ColumnShape): number {
  if (baseType === 'name') return 63
  // The modifier of character types counts four bytes of a header.
  if (baseType === 'character') return typeModifier === -1 ? 1 : typeModifier - 4
  return typeModifier === -1 || baseType === 'text' ? Number.POSITIVE_INFINITY : typeModifier - 4
}

const PLAIN: Readonly<Record<string, string>> = {
  smallint: '1',
  integer: '1',
  bigint: '1',
  numeric: '0',
  real: '1',
  'double precision': '1',
  money: '1',
  boolean: 'true',
  json: '{}',
  jsonb: '{}',
  bytea: '\\x01',
  date: '2026-01-01',
  'timestamp without time zone': '2026-01-01 00:00:00',
  'timestamp with time zone': '2026-01-01 00:00:00+00',
  'time without time zone': '00:00:00',
  'time with time zone': '00:00:00+00',
  interval: '1 day',
  inet: '192.0.2.1',
  cidr: '192.0.2.0/24',
  macaddr: '00:00:5e:00:53:01',
  macaddr8: '00:00:5e:00:53:01:00:00',
  point: '(1,1)',
  line: '{1,-1,0}',
  lseg: '[(0,0),(1,1)]',
  box: '(1,1),(0,0)',
  path: '[(0,0),(1,1)]',
  polygon: '((0,0),(1,1),(1,0))',
  circle: '<(1,1),1>',
  tsvector: 'a',
  tsquery: 'a',
  xml: '<a/>',
  int4range: '[1,2)',
  int8range: '[1,2)',
  numrange: '[1,2)',
  daterange: '[2026-01-01,2026-01-02)',
  tsrange: '[2026-01-01,2026-01-02)',
  tstzrange: '[2026-01-01,2026-01-02)',
  int4multirange: '{[1,2)}',
  int8multirange: '{[1,2)}',
  nummultirange: '{[1,2)}',
  datemultirange: '{[2026-01-01,2026-01-02)}',
  tsmultirange: '{[2026-01-01,2026-01-02)}',
  tstzmultirange: '{[2026-01-01,2026-01-02)}',
  regclass: 'pg_class',
  regtype: 'text',
  oid: '1',
  hstore: 'a=>1',
  ltree: 'a',
}
