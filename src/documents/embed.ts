import { createRowhouseError } from '../errors.ts'

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
