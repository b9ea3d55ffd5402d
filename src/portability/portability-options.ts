import type { Writable } from 'node:stream'
import * as z from 'zod'
import { parseOptions, parseTenantId } from '../context/context-options.ts'
import { createRowhouseError } from '../errors.ts'
import type { ExportOptions, ImportOptions } from './portability-types.ts'

const callback = z.custom<(...args: any[]) => any>((value) => typeof value === 'function', 'is not a function')
const exportOptions = z.strictObject({
  to: z.custom<Writable>(
    (value) => hasMethod(value, 'write') && hasMethod(value, 'end'),
    'is not a stream to write to',
  ),
  files: z
    .custom<NonNullable<ExportOptions['files']>>(
      (value) => hasMethod(value, Symbol.asyncIterator) || hasMethod(value, Symbol.iterator),
      'is not a list of files',
    )
    .optional(),
  onProgress: callback.optional(),
})
const importOptions = z.strictObject({
  as: z.string().optional(),
  contentHash: z
    .string()
    .regex(/^[0-9a-f]{64}$/, 'is not a SHA-256 in hexadecimal')
    .optional(),
  onFile: callback.optional(),
  onProgress: callback.optional(),
})

export function parseExportOptions(options: ExportOptions): ExportOptions {
  const parsed = parseOptions(exportOptions, options)
  surviveEarlyFailure(parsed.to)
  return parsed
}

/** A stream may fail while the transaction begins; without a listener that would end the process. */
function surviveEarlyFailure(stream: unknown): void {
  if (hasMethod(stream, 'on')) (stream as Writable).on('error', () => {})
}

export function parseImportOptions(source: unknown, options: ImportOptions): ImportOptions {
  if (!hasMethod(source, Symbol.asyncIterator)) {
    throw createRowhouseError(
      'invalid_argument',
      'An archive is a stream to read from, or another AsyncIterable of bytes.',
    )
  }
  const parsed = parseOptions(importOptions, options)
  if (parsed.as !== undefined) parseTenantId(parsed.as)
  surviveEarlyFailure(source)
  return parsed
}

function hasMethod(value: unknown, name: string | symbol): boolean {
  return (
    typeof value === 'object' && value !== null && typeof (value as Record<PropertyKey, unknown>)[name] === 'function'
  )
}
