import * as z from 'zod'
import { parseOptions } from '../context/context-options.ts'
import { createRowhouseError } from '../errors.ts'
import { estimateTokens, type TokenCounter } from './count-tokens.ts'

/** A document for a prompt: search hits and stored documents are such. */
export interface ContextDocument {
  readonly tenantId: string
  readonly id: string
  readonly content: string
  readonly metadata?: Readonly<Record<string, unknown>> | undefined
}

export interface RagContextOptions {
  /** What the text may have at most, by the counter. */
  readonly maxTokens: number
  /** Default: an estimate. */
  readonly countTokens?: TokenCounter | undefined
  /** Keys of the metadata that the model sees with a document, for example `['title', 'source']`. Default none. */
  readonly show?: readonly string[] | undefined
}

export interface RagContext {
  /** One element `<document>` for each document that fits; empty when none does. */
  readonly text: string
  /** Of the text, by the counter; never more than `maxTokens`. */
  readonly tokens: number
  /** Ids of the documents in the text, in the order given. */
  readonly included: readonly string[]
  /** Ids of the documents that did not fit. */
  readonly omitted: readonly string[]
}

const ragContextOptions = z.strictObject({
  maxTokens: z.int().min(0),
  countTokens: z.custom<TokenCounter>((value) => typeof value === 'function', 'is not a function').optional(),
  show: z.array(z.string()).optional(),
})

/** Puts documents of one tenant into a text for a model, as many as fit, in the order given. */
export function buildRagContext(
  tenantId: string,
  documents: readonly ContextDocument[],
  options: RagContextOptions,
): RagContext {
  const { maxTokens, countTokens = estimateTokens, show = [] } = parseOptions(ragContextOptions, options)
  // Before anything is put together: one wrong document and there is no text at all.
  for (const document of documents) {
    if (document.tenantId !== tenantId) {
      throw createRowhouseError(
        'tenant_mismatch',
        `A document for the prompt of tenant "${tenantId}" belongs to another tenant.`,
        {
          hint: 'Take documents from tenant.documents() of the same tenant only.',
        },
      )
    }
  }
  const distinct = [...new Map(documents.map((document) => [document.id, document])).values()]
  const included: { id: string; text: string }[] = []
  let tokens = 0
  for (const document of distinct) {
    const text = renderDocument(document, show)
    const together = countTokens([...included.map((other) => other.text), text].join('\n'))
    if (together > maxTokens) continue
    included.push({ id: document.id, text })
    tokens = together
  }
  const ids = included.map(({ id }) => id)
  return {
    text: included.map(({ text }) => text).join('\n'),
    tokens,
    included: ids,
    omitted: distinct.map(({ id }) => id).filter((id) => !ids.includes(id)),
  }
}

function renderDocument({ id, content, metadata = {} }: ContextDocument, show: readonly string[]): string {
  const shown = show.flatMap((key) => {
    const value = metadata[key]
    return value === undefined || value === null
      ? []
      : [[key, typeof value === 'string' ? value : JSON.stringify(value)]]
  })
  const attributes = [['id', id], ...shown].map(
    ([key, value]) => ` ${attributeName(key!)}="${escapeAttribute(value!)}"`,
  )
  return `<document${attributes.join('')}>\n${escapeContent(content)}\n</document>`
}

function attributeName(key: string): string {
  return key.replace(/[^\p{L}\p{N}_-]/gu, '_')
}

function escapeAttribute(value: string): string {
  return value.replace(/[&"<>\s]/g, (character) => ATTRIBUTE_ESCAPES[character] ?? ' ')
}

const ATTRIBUTE_ESCAPES: Readonly<Record<string, string>> = { '&': '&amp;', '"': '&quot;', '<': '&lt;', '>': '&gt;' }

/** Only what could end the element or begin another: code and formulas stay readable. */
function escapeContent(content: string): string {
  return content.replace(/<(?=\s*\/?\s*document)/gi, '&lt;')
}
