import * as z from 'zod'
import { createRowhouseError, type RowhouseErrorCode } from '../errors.ts'
import type { DocumentChanges, Embedding, ParentDocument, TextDocument } from './document-types.ts'
import { storableJson, storableText } from './parse-text.ts'

/** A document that is ready to be sent but for its embedding. */
export interface ParsedDocument {
  /** The database makes one when there is none. */
  readonly id: string | undefined
  readonly content: string
  /** As JSON. */
  readonly metadata: string
  readonly embedding: Embedding | undefined
  readonly title: string | undefined
  readonly source: string | undefined
}

/** A parent that is ready to be sent but for the embeddings of its parts. */
export interface ParsedParent {
  readonly id: string | undefined
  readonly title: string | undefined
  readonly source: string | undefined
  /** As JSON. */
  readonly metadata: string
  readonly parts: ParsedDocument[]
}

const documentId = storableText(256)

const title = storableText(1000)
const source = storableText(2000)
const metadata = storableJson(262_144)

const part = z.strictObject({
  id: documentId.optional(),
  content: storableText(1_000_000),
  metadata: metadata.optional(),
  embedding: z.custom<Embedding>().optional(),
})
const textDocument = part.extend({ title: title.optional(), source: source.optional() })
const parent = z.strictObject({
  id: storableText(240).optional(),
  title: title.optional(),
  source: source.optional(),
  metadata: metadata.optional(),
  parts: z.array(z.unknown(), 'is not an array').min(1, 'is empty').readonly(),
})
const changes = z
  .strictObject({
    metadata: metadata.optional(),
    title: title.nullable().optional(),
    source: source.nullable().optional(),
  })
  .refine((value) => Object.values(value).some((entry) => entry !== undefined), 'change nothing')

/** Checks documents before anything is sent. */
export function parseDocuments(documents: readonly TextDocument[]): ParsedDocument[] {
  if (!Array.isArray(documents)) throw createRowhouseError('invalid_document', 'upsert takes an array of documents.')
  if (documents.length === 0) throw createRowhouseError('invalid_document', 'There is no document to write.')
  return parseAll(documents, textDocument, 'Document')
}

/** Checks a parent and its parts before anything is sent. */
export function parseParent(value: ParentDocument): ParsedParent {
  const { id, title, source, metadata = '{}', parts } = parse(parent, value, 'invalid_document', 'The parent')
  return { id, title, source, metadata, parts: parseAll(parts, part, 'Part') }
}

/** What `update` is called with, as JSON. */
export function parseChanges(value: DocumentChanges): string {
  const { metadata, ...rest } = parse(changes, value, 'invalid_document', 'The changes')
  return JSON.stringify({ ...rest, ...(metadata === undefined ? {} : { metadata: JSON.parse(metadata) }) })
}

type DocumentSchema = z.ZodType<
  z.output<typeof part> & { title?: string | undefined; source?: string | undefined },
  unknown
>

function parseAll(documents: readonly unknown[], schema: DocumentSchema, noun: string): ParsedDocument[] {
  const places = new Map<string, number>()
  return documents.map((document, index) => {
    const which = `${noun} ${index + 1} of ${documents.length}`
    const {
      id,
      metadata = '{}',
      content,
      embedding,
      title,
      source,
    } = parse(schema, document, 'invalid_document', which)
    const previous = id === undefined ? undefined : places.get(id)
    if (previous !== undefined) {
      throw createRowhouseError(
        'invalid_document',
        `${which} has the id of ${noun.toLowerCase()} ${previous} of the same call.`,
      )
    }
    if (id !== undefined) places.set(id, index + 1)
    return { id, content, metadata, embedding, title, source }
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
