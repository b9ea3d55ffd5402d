import * as z from 'zod'
import { createRowhouseError, type RowhouseErrorCode } from '../errors.ts'
import type { Embedding, TextDocument } from './document-types.ts'
import { storableJson, storableText } from './parse-text.ts'

/** A document that is ready to be sent but for its embedding. */
export interface ParsedDocument {
  /** The database makes one when there is none. */
  readonly id: string | undefined
  readonly content: string
  /** As JSON. */
  readonly metadata: string
  readonly embedding: Embedding | undefined
}

const documentId = storableText(256)

const textDocument = z.strictObject({
  id: documentId.optional(),
  content: storableText(1_000_000),
  metadata: storableJson(262_144).optional(),
  embedding: z.custom<Embedding>().optional(),
})

/** Checks documents before anything is sent. */
export function parseDocuments(documents: readonly TextDocument[]): ParsedDocument[] {
  if (!Array.isArray(documents)) throw createRowhouseError('invalid_document', 'upsert takes an array of documents.')
  if (documents.length === 0) throw createRowhouseError('invalid_document', 'There is no document to write.')
  const places = new Map<string, number>()
  return documents.map((document, index) => {
    const which = `Document ${index + 1} of ${documents.length}`
    const { id, metadata = '{}', content, embedding } = parse(textDocument, document, 'invalid_document', which)
    const previous = id === undefined ? undefined : places.get(id)
    if (previous !== undefined) {
      throw createRowhouseError('invalid_document', `${which} has the id of document ${previous} of the same call.`)
    }
    if (id !== undefined) places.set(id, index + 1)
    return { id, content, metadata, embedding }
  })
}

const documentIds = z.array(documentId)

export function parseDocumentIds(ids: string | readonly string[]): string[] {
  return parse(documentIds, typeof ids === 'string' ? [ids] : ids, 'invalid_document', 'The ids')
}

const collectionName = z
  .string('is not a string')
  .regex(/^[a-z][a-z0-9_]{0,47}$/, 'is not 1 to 48 small letters, digits or underscores that begin with a letter')

export function parseCollectionName(name: string): string {
  return parse(collectionName, name, 'invalid_collection', 'The name of the collection')
}

/** The parsed value, or an error of one sentence that begins with `subject`. */
export function parse<T>(schema: z.ZodType<T, unknown>, value: unknown, code: RowhouseErrorCode, subject: string): T {
  const { success, data, error } = schema.safeParse(value)
  if (success) return data
  const issue = error.issues[0]!
  const path = issue.path.join('.')
  throw createRowhouseError(code, `${subject}${path === '' ? '' : `: ${path}`} ${lowerFirst(issue.message)}.`)
}

function lowerFirst(message: string): string {
  return `${message.charAt(0).toLowerCase()}${message.slice(1)}`
}
