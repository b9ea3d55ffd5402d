import { sql } from 'kysely'
import * as z from 'zod'
import type { AdminExecutor } from '../context/admin-executor.ts'
import { RowhouseError } from '../errors.ts'
import { type EmbedFunction, embedTexts } from './embed.ts'
import { parse } from './parse-documents.ts'
import { parseEmbeddings } from './parse-embedding.ts'

export interface ModelChangeOptions {
  /** Name of the new model. */
  readonly model: string
  /** Embeds contents with the new model. */
  readonly embed: EmbedFunction
  /** Of the new model. Default: as before. */
  readonly dimensions?: number | undefined
  readonly metric?: 'cosine' | 'inner_product' | 'l2' | undefined
  readonly elementType?: 'vector' | 'halfvec' | undefined
  /** Documents that are embedded and written at once: 1 to 10,000. Default 100. */
  readonly batchSize?: number | undefined
  /** Memory for building the index, for example `2GB`. */
  readonly maintenanceWorkMem?: string | undefined
  /** Called after each batch. */
  readonly onProgress?: ((progress: ModelChangeProgress) => void) | undefined
  /** Ends the work after the batch at hand; called again, it goes on from there. */
  readonly signal?: AbortSignal | undefined
}

/** How far a change of the model is. */
export interface ModelChangeProgress {
  /** Tenants that were gone through. */
  readonly tenants: number
  /** Documents that got their new embedding in this call. */
  readonly documents: number
}

const options = z.object({
  model: z.string('is not a string').min(1, 'is empty').max(200, 'has more than 200 characters'),
  embed: z.custom<EmbedFunction>((value) => typeof value === 'function', 'is not a function'),
  dimensions: z.int('is not a whole number').optional(),
  metric: z.enum(['cosine', 'inner_product', 'l2'], 'is not cosine, inner_product or l2').optional(),
  elementType: z.enum(['vector', 'halfvec'], 'is not vector or halfvec').optional(),
  batchSize: z.int('is not a whole number').min(1, 'is less than 1').max(10_000, 'is more than 10000').default(100),
})

/** How often documents that were written meanwhile are filled in before the switch is given up. */
const ROUNDS = 20

/** Fills the new version of a collection, tenant by tenant, and switches to it. */
export async function changeModel(admin: AdminExecutor, name: string, given: ModelChangeOptions): Promise<void> {
  const { model, embed, dimensions, metric, elementType, batchSize } = parse(
    options,
    given,
    'invalid_collection',
    'The options of the change',
  )
  const { signal, onProgress, maintenanceWorkMem } = given
  await sql`select rowhouse.begin_model_change(${name}, ${model}, ${dimensions ?? null}, ${metric ?? null},
    ${elementType ?? null})`.execute(admin.db)
  const fill = { admin, name, embed, batchSize, signal }
  let documents = 0
  for (let round = 1; ; round++) {
    let tenants = 0
    for await (const tenantId of tenantIds(admin)) {
      for await (const written of fillTenant(fill, tenantId)) {
        documents += written
        onProgress?.({ tenants, documents })
      }
      tenants++
    }
    onProgress?.({ tenants, documents })
    // Built at once over everything, which is much faster than row by row.
    if (round === 1) {
      await sql`select rowhouse.index_collection(${name}, null, null, ${maintenanceWorkMem ?? null}, 'next')`.execute(
        admin.db,
      )
    }
    try {
      await sql`select rowhouse.switch_model(${name})`.execute(admin.db)
      return
    } catch (error) {
      // Somebody who knows only the old model wrote documents meanwhile.
      const incomplete = error instanceof RowhouseError && error.code === 'model_change_incomplete'
      if (!incomplete || round === ROUNDS) throw error
    }
  }
}

async function* tenantIds({ db }: AdminExecutor): AsyncGenerator<string> {
  for (let after = ''; ; ) {
    const { rows } = await sql<{ tenant_id: string }>`
      select tenant_id from rowhouse.tenants
      where tenant_id > ${after} and status not in ('erasing', 'erased') order by tenant_id limit 1000`.execute(db)
    for (const { tenant_id: tenantId } of rows) yield tenantId
    if (rows.length < 1000) return
    after = rows.at(-1)!.tenant_id
  }
}

interface Fill {
  readonly admin: AdminExecutor
  readonly name: string
  readonly embed: EmbedFunction
  readonly batchSize: number
  readonly signal: AbortSignal | undefined
}

/** How many documents each batch wrote. No transaction is open while the model works. */
async function* fillTenant({ admin, name, embed, batchSize, signal }: Fill, tenantId: string): AsyncGenerator<number> {
  for (let after: string | null = null; ; ) {
    signal?.throwIfAborted()
    const { rows } = await sql<{ document_id: string; content: string }>`
      select document_id, content from rowhouse.unembedded_documents(${name}, ${tenantId}, ${after}, ${batchSize})`.execute(
      admin.db,
    )
    if (rows.length === 0) return
    const contents = rows.map(({ content }) => content)
    const vectors = parseEmbeddings(await embedTexts(embed, contents))
    const ids = rows.map((row) => row.document_id)
    try {
      const { rows: written } = await sql<{ count: string }>`
        select rowhouse.fill_documents(${name}, ${tenantId}, ${ids}::text[], ${contents}::text[], ${vectors}::text[]) as count`.execute(
        admin.db,
      )
      yield Number(written[0]!.count)
    } catch (error) {
      // Erased while the model worked: there is nothing to fill any more.
      if (error instanceof RowhouseError && ['tenant_inactive', 'tenant_not_found'].includes(error.code)) return
      throw error
    }
    after = ids.at(-1)!
  }
}
