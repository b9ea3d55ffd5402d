import { estimateTokens, type Message, type TenantContext } from '../../src/index.ts' // in your project: 'rowhouse'
import { embedWords, type Model } from './model.ts'

const INSTRUCTIONS = 'You answer questions about the documents of your company. Say so when they do not tell.'
const MAX_ANSWER_TOKENS = 400

export interface Answer {
  readonly text: string
  /** Ids of the passages that the model saw. */
  readonly passages: readonly string[]
}

/** Answers a question in a conversation, from the tenant's documents. No transaction is open while the model works. */
export async function answer(
  tenant: TenantContext,
  model: Model,
  sessionId: string,
  question: string,
): Promise<Answer> {
  const history = await tenant.sessions.window(sessionId, { maxTokens: 4000 })
  const documents = tenant.documents('handbook', { embed: embedWords })
  const hits = await documents.search({ mode: 'hybrid', text: question, match: 'any', limit: 5 })
  const context = tenant.prompt.ragContext(hits, { maxTokens: 2000 })
  const system = await tenant.prompt.system({ instructions: INSTRUCTIONS })
  const messages = [...history.messages.map(toTurn), { role: 'user', text: question }]

  const begun = performance.now()
  const texts = [system, context.text, ...messages.map(({ text }) => text)]
  // The worst case is reserved, what the model reports is booked, and a failure gives all of it back.
  const { text, usage } = await tenant.budget.run(
    { model: model.name, units: { inputTokens: estimateTokens(texts.join('\n')), outputTokens: MAX_ANSWER_TOKENS } },
    async (call) => {
      const options = { maxTokens: MAX_ANSWER_TOKENS, signal: call.signal }
      const completion = await model.complete({ system, context: context.text, messages, ...options })
      call.report(completion.usage)
      return completion
    },
  )

  await tenant.sessions.append(sessionId, [
    { role: 'user', content: question },
    { role: 'assistant', content: text },
  ])
  const latencyMs = performance.now() - begun
  const details = { model: model.name, documents: context.included, latencyMs, ...usage }
  await tenant.audit.append({ action: 'assistant.answer', ...details })
  return { text, passages: context.included }
}

/** A message as the model takes it. */
export function toTurn({ role, content }: Message): { role: string; text: string } {
  return { role, text: content.map((part) => (part.type === 'text' ? part.text : '')).join('') }
}
