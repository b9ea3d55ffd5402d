import { sql } from 'kysely'
import type { TenantExecutor } from '../context/tenant-executor.ts'
import type { TokenCounter } from './count-tokens.ts'
import { buildRagContext, type ContextDocument, type RagContext, type RagContextOptions } from './rag-context.ts'
import { type ScreenedInput, type ScreenOptions, screenInput } from './screen-input.ts'
import { buildSystemPrompt, parseSystemPromptOptions, type SystemPromptOptions } from './system-prompt.ts'

/** Puts prompts together for one tenant. */
export class Prompt {
  readonly #executor: TenantExecutor
  readonly #countTokens: TokenCounter | undefined

  /** @internal */
  constructor(executor: TenantExecutor, countTokens?: TokenCounter) {
    this.#executor = executor
    this.#countTokens = countTokens
  }

  /**
   * The system prompt for this tenant: your instructions, a note about its tier, and as JSON data its name and what its
   * settings hold under `prompt`: `{ "prompt": { "assistantName": "Ada", "instructions": "Answer in German." } }`.
   *
   * SQL: `select name, tier, settings -> 'prompt' from rowhouse.tenants where tenant_id = 'acme'`
   *
   * @example
   * ```ts
   * const system = await tenant.prompt.system({
   *   instructions: 'You answer questions about invoices.',
   *   tierNotes: { free: 'Answer in at most three sentences.' },
   * })
   * ```
   */
  async system(options: SystemPromptOptions): Promise<string> {
    const parsed = parseSystemPromptOptions(options)
    const { rows } = await sql<{ name: string; tier: string; prompt: unknown }>`
      select t.name, t.tier, t.settings -> 'prompt' as prompt
        from rowhouse.tenants t where t.tenant_id = ${this.#executor.tenantId}`.execute(this.#executor.db)
    const { name, tier, prompt } = rows[0]!
    return buildSystemPrompt(
      {
        company: name,
        tier,
        assistantName: parsed.assistantName ?? textOf(prompt, 'assistantName'),
        instructions: textOf(prompt, 'instructions'),
      },
      parsed,
    )
  }

  /**
   * Documents as a text for a model: as many as fit into `maxTokens`, in the order given, each in an element that its
   * content can't end. Sends nothing.
   *
   * Errors: `tenant_mismatch` when one of the documents belongs to another tenant.
   *
   * @example
   * ```ts
   * const hits = await tenant.documents('handbook').search({ embedding, limit: 20 })
   * const { text, included } = tenant.prompt.ragContext(hits, { maxTokens: 2000, show: ['source'] })
   * ```
   */
  ragContext(documents: readonly ContextDocument[], options: RagContextOptions): RagContext {
    return buildRagContext(this.#executor.tenantId, documents, { countTokens: this.#countTokens, ...options })
  }

  /** Reports what is suspicious about an input, see {@link screenInput}. Sends nothing. */
  screen(text: string, options?: ScreenOptions): ScreenedInput {
    return screenInput(text, options)
  }
}

/** A text in the settings, which are whatever an operator stored. */
function textOf(settings: unknown, key: string): string | undefined {
  const value =
    typeof settings === 'object' && settings !== null ? (settings as Record<string, unknown>)[key] : undefined
  return typeof value === 'string' && value !== '' ? value : undefined
}
