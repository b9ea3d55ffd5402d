import { toSql } from 'pgvector'
import { createRowhouseError } from '../errors.ts'

/**
 * An embedding as pgvector reads it. `whose` is the subject of the error message.
 * Dimensions are checked by the database, which knows the collection; so is the narrower range of halfvec.
 */
export function parseEmbedding(embedding: unknown, whose: string): string {
  if (!Array.isArray(embedding) && !(embedding instanceof Float32Array)) {
    throw invalid(`${whose} is no array of numbers.`)
  }
  if (embedding.length === 0) throw invalid(`${whose} is empty.`)
  const values: number[] = Array.from(embedding)
  for (const [index, value] of values.entries()) {
    // What is finite in JavaScript may be infinite in the 4 bytes of a vector.
    if (typeof value !== 'number' || !Number.isFinite(Math.fround(value))) {
      throw invalid(`${whose} holds ${describe(value)} at position ${index}; every element is a finite number.`)
    }
  }
  return toSql(values)!
}

/** The embeddings of one call, as pgvector reads them. */
export function parseEmbeddings(embeddings: readonly unknown[]): string[] {
  const whose = (index: number) => `The embedding of document ${index + 1} of ${embeddings.length}`
  const vectors = embeddings.map((embedding, index) => parseEmbedding(embedding, whose(index)))
  // Checked here too because only here the place of a document is known; which number is right the database knows.
  const lengths = embeddings.map((embedding) => (embedding as { length: number }).length)
  const odd = lengths.findIndex((length) => length !== lengths[0])
  if (odd !== -1) throw invalid(`${whose(odd)} has ${lengths[odd]} dimensions, that of document 1 has ${lengths[0]}.`)
  return vectors
}

function describe(value: unknown): string {
  if (typeof value === 'number') return Number.isFinite(value) ? 'a number out of range' : String(value)
  return value === null ? 'null' : typeof value
}

function invalid(message: string): Error {
  return createRowhouseError('invalid_embedding', message)
}
