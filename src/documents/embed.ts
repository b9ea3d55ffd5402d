import { createRowhouseError } from '../errors.ts'
import type { ReadyDocument } from './batch-documents.ts'
import type { ParsedDocument } from './parse-documents.ts'
import { parseEmbeddings } from './parse-embedding.ts'

/**
 * Turns texts into embeddings, one per text and in the same order: a call to an embedding model.
 *
 * @example
 * ```ts
 * const embed: EmbedFunction = async (texts) => {
 *   const response = await openai.embeddings.create({ model: 'text-embedding-3-small', input: [...texts] })
 *   return response.data.map((item) => item.embedding)
 * }
 * ```
 */
export type EmbedFunction = (texts: readonly string[]) => Promise<number[][]>

/** A model by its name, and what calls it. */
export interface EmbeddingModel {
  /** As the collection calls it: 1 to 200 characters. */
  readonly model: string
  readonly embed: EmbedFunction
}

/** Options of `documents(collection, options)`. */
export interface DocumentsOptions {
  /**
   * Embeds contents and searched texts, so that callers deal in text only. Called before anything is sent: inside
   * `withTenant` an earlier statement of yours keeps the transaction open meanwhile.
   */
  readonly embed?: EmbedFunction | undefined
  /** The model that the embeddings are of; refused (`other_model`) by a collection that has another. */
  readonly model?: string | undefined
  /**
   * A second model, while the collection changes from one to the other: documents are written with the embeddings of
   * both, and a search uses this one where the collection does not have the first.
   */
  readonly otherModel?: EmbeddingModel | undefined
}

/** Embeds texts; no call for no text. */
export async function embedTexts(embed: EmbedFunction, texts: readonly string[]): Promise<number[][]> {
  if (texts.length === 0) return []
  const embeddings = await embed(texts)
  if (!Array.isArray(embeddings) || embeddings.length !== texts.length) {
    const count = Array.isArray(embeddings) ? embeddings.length : 'no'
    throw createRowhouseError(
      'invalid_embedding',
      `The embed function returned ${count} embeddings for ${texts.length} texts; it must return one for each.`,
    )
  }
  return embeddings
}

/** Documents with their embeddings, which are made where they are not given. */
export async function embedDocuments(
  documents: readonly ParsedDocument[],
  { embed, otherModel }: DocumentsOptions,
  noun = 'Document',
): Promise<ReadyDocument[]> {
  const missing = documents.filter(({ embedding }) => embedding === undefined)
  if (missing.length > 0 && embed === undefined) {
    const place = documents.indexOf(missing[0]!) + 1
    throw createRowhouseError('invalid_embedding', `${noun} ${place} of ${documents.length} has no embedding.`)
  }
  const contents = (list: readonly ParsedDocument[]) => list.map(({ content }) => content)
  const made = embed === undefined ? [] : await embedTexts(embed, contents(missing))
  let next = 0
  const vectors = parseEmbeddings(documents.map(({ embedding = made[next++] }) => embedding))
  const second =
    otherModel === undefined ? [] : parseEmbeddings(await embedTexts(otherModel.embed, contents(documents)))
  return documents.map((document, index) => ({
    ...document,
    vector: vectors[index]!,
    ...(otherModel === undefined ? {} : { secondVector: second[index]! }),
  }))
}
