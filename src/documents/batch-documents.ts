import type { ParsedDocument } from './parse-documents.ts'

/** A document with its embedding as text. */
export interface ReadyDocument extends ParsedDocument {
  readonly vector: string
}

/** The arrays of one statement; element n of each belongs to document n. */
export interface DocumentBatch {
  /** Where in the call each document stands. */
  readonly places: number[]
  readonly ids: (string | null)[]
  readonly contents: string[]
  readonly vectors: string[]
  readonly metadata: string[]
}

/** About as many characters go into one statement; server and client hold them in memory several times. */
const MAXIMUM_CHARACTERS = 8 * 1024 * 1024

/**
 * The statements that write the documents. Several of them go in the order of the ids, as each does by itself: two
 * callers that write the same documents wait for each other instead of deadlocking.
 */
export function batchDocuments(documents: readonly ReadyDocument[]): DocumentBatch[] {
  const total = documents.reduce((sum, document) => sum + countCharacters(document), 0)
  const places = [...documents.keys()]
  if (total > MAXIMUM_CHARACTERS) places.sort((one, other) => compareIds(documents[one]!, documents[other]!))
  const batches: DocumentBatch[] = []
  let batch: DocumentBatch | undefined
  let characters = 0
  for (const place of places) {
    const document = documents[place]!
    const length = countCharacters(document)
    if (batch === undefined || characters + length > MAXIMUM_CHARACTERS) {
      batch = { places: [], ids: [], contents: [], vectors: [], metadata: [] }
      batches.push(batch)
      characters = 0
    }
    batch.places.push(place)
    batch.ids.push(document.id ?? null)
    batch.contents.push(document.content)
    batch.vectors.push(document.vector)
    batch.metadata.push(document.metadata)
    characters += length
  }
  return batches
}

function countCharacters({ id = '', content, metadata, vector }: ReadyDocument): number {
  return id.length + content.length + metadata.length + vector.length
}

/** New documents, which nobody else can write, stay in place behind the others. */
function compareIds({ id: one }: ReadyDocument, { id: other }: ReadyDocument): number {
  if (one === other) return 0
  if (one === undefined || other === undefined) return one === undefined ? 1 : -1
  return one < other ? -1 : 1
}
