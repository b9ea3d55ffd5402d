import type { ParsedDocument } from './parse-documents.ts'

/** A document with its embedding as text. */
export interface ReadyDocument extends ParsedDocument {
  readonly vector: string
  /** By the other model, while the collection changes from one to the other. */
  readonly secondVector?: string | undefined
}

/** The arrays of one statement; element n of each belongs to document n. */
export interface DocumentBatch {
  /** Where in the call each document stands. */
  readonly places: number[]
  readonly ids: (string | null)[]
  readonly contents: string[]
  readonly vectors: string[]
  readonly secondVectors: string[] | null
  readonly metadata: string[]
  readonly titles: (string | null)[]
  readonly sources: (string | null)[]
}

/** About as many characters go into one statement; server and client hold them in memory several times. */
const MAXIMUM_CHARACTERS = 8 * 1024 * 1024

/**
 * The statements that write the documents. Several of them go in the order of the ids, as each does by itself: two
 * callers that write the same documents wait for each other instead of deadlocking.
 */
export function batchDocuments(documents: readonly ReadyDocument[], maximum = MAXIMUM_CHARACTERS): DocumentBatch[] {
  const total = documents.reduce((sum, document) => sum + countCharacters(document), 0)
  const places = [...documents.keys()]
  if (total > maximum) places.sort((one, other) => compareIds(documents[one]!, documents[other]!))
  const batches: DocumentBatch[] = []
  let batch: DocumentBatch | undefined
  let characters = 0
  for (const place of places) {
    const document = documents[place]!
    const length = countCharacters(document)
    if (batch === undefined || characters + length > maximum) {
      batch = emptyBatch(document.secondVector !== undefined)
      batches.push(batch)
      characters = 0
    }
    batch.places.push(place)
    batch.ids.push(document.id ?? null)
    batch.contents.push(document.content)
    batch.vectors.push(document.vector)
    if (document.secondVector !== undefined) batch.secondVectors?.push(document.secondVector)
    batch.metadata.push(document.metadata)
    batch.titles.push(document.title ?? null)
    batch.sources.push(document.source ?? null)
    characters += length
  }
  return batches
}

function emptyBatch(withSecond: boolean): DocumentBatch {
  return {
    places: [],
    ids: [],
    contents: [],
    vectors: [],
    secondVectors: withSecond ? [] : null,
    metadata: [],
    titles: [],
    sources: [],
  }
}

function countCharacters({ id = '', content, metadata, vector, secondVector = '' }: ReadyDocument): number {
  return id.length + content.length + metadata.length + vector.length + secondVector.length
}

/** New documents, which nobody else can write, stay in place behind the others. */
function compareIds({ id: one }: ReadyDocument, { id: other }: ReadyDocument): number {
  if (one === other) return 0
  if (one === undefined || other === undefined) return one === undefined ? 1 : -1
  return one < other ? -1 : 1
}
