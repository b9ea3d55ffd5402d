/** The two models that the service needs. Put those of your provider in their place; both are small interfaces. */
import { createHash } from 'node:crypto'
import { type EmbedFunction, estimateTokens } from '../../src/index.ts' // in your project: 'rowhouse'

export interface CompletionRequest {
  readonly system: string
  /** The passages that the answer may use. */
  readonly context: string
  readonly messages: readonly { readonly role: string; readonly text: string }[]
  readonly maxTokens: number
  readonly signal: AbortSignal
}

export interface Completion {
  readonly text: string
  readonly usage: { readonly inputTokens: number; readonly outputTokens: number }
}

export interface Model {
  /** As its price is listed. */
  readonly name: string
  complete(request: CompletionRequest): Promise<Completion>
}

/** Answers with the sentence of the context that shares the most words with the question. Needs no network. */
export const quotingModel: Model = {
  name: 'quoting',
  async complete({ system, context, messages, signal }) {
    signal.throwIfAborted()
    const question = new Set(words(messages.at(-1)?.text ?? ''))
    const sentences = context.split(/(?<=[.!?])\s+|\n/).filter((line) => /^[^<].*[.!?]$/.test(line))
    const shared = (sentence: string) => words(sentence).filter((word) => question.has(word)).length
    const best = sentences.toSorted((a, b) => shared(b) - shared(a))[0]
    const text = best !== undefined && shared(best) > 0 ? best : 'I find nothing about it in the documents.'
    const input = [system, context, ...messages.map((message) => message.text)].join('\n')
    return { text, usage: { inputTokens: estimateTokens(input), outputTokens: estimateTokens(text) } }
  },
}

export const DIMENSIONS = 256

/** Adds a few dimensions for each word, chosen by its hash: texts that share words come out close. Needs no network. */
export const embedWords: EmbedFunction = async (texts) =>
  texts.map((text) => {
    const embedding = new Array<number>(DIMENSIONS).fill(0)
    embedding[0] = 0.01 // A text without words needs a direction, too.
    for (const word of words(text)) {
      const hash = createHash('sha256').update(word).digest()
      for (let at = 0; at < 8; at++) embedding[hash[at]!]! += hash[at + 8]! % 2 === 0 ? 1 : -1
    }
    return embedding
  })

function words(text: string): string[] {
  return text.toLowerCase().match(/\p{L}{3,}/gu) ?? []
}
