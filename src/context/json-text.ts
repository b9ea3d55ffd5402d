import { createRowhouseError, type RowhouseErrorCode } from '../errors.ts'

/** Any JSON value as text that Postgres stores as it is; `what` is the subject of the error. */
export function toJsonText(value: unknown, what: string, maximumBytes: number, code: RowhouseErrorCode): string {
  const fail = (problem: string) => createRowhouseError(code, `${what} ${problem}.`)
  let text: string | undefined
  try {
    text = JSON.stringify(value)
  } catch {
    throw fail('can not be written as JSON')
  }
  if (text === undefined) throw fail('can not be written as JSON')
  // As escapes only: JSON.stringify writes neither as it is. An even number of backslashes before them is text.
  if (/(^|[^\\])(\\\\)*\\u(0000|d[89a-f])/.test(text)) {
    throw fail('contains a zero byte or half of a character, which Postgres can not store')
  }
  if (Buffer.byteLength(text) > maximumBytes) throw fail(`has more than ${maximumBytes} bytes`)
  return text
}
