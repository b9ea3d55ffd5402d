import { ARCHIVES, COMMON_QUESTION } from '../archives.ts'
import { DEMO_COLLECTION } from '../demo-database.ts'
import type { DemoRun, DemoStep } from '../demo-run.ts'
import { excerpt } from '../excerpt.ts'
import { loadPassages } from '../passages.ts'

const EXCERPT_LENGTH = 56

type Key = keyof typeof ARCHIVES

/** Puts the addresses of its presidents into each tenant's part of one collection. */
export const ingestDocuments: DemoStep = async ({ show, database, rowhouse, embed }) => {
  show.section('Ingest documents')
  show.text('Addresses to Congress, split into passages of a few sentences, embedded locally in 256 dimensions.')
  // So few documents are searched exactly, without an index, which is the slow part of writing them.
  await rowhouse.collections.create(DEMO_COLLECTION, { dimensions: 256, metric: 'cosine', index: false })
  const rows: (string | number)[][] = []
  const stored: Record<string, number> = {}
  const ingested: Record<string, number> = {}
  for (const [key, archive] of Object.entries(ARCHIVES)) {
    const id = database.tenantIds[key as Key]
    const documents = rowhouse.tenant(id).documents(DEMO_COLLECTION, { embed })
    const passages = await loadPassages(archive.presidents)
    const begun = performance.now()
    await documents.upsert(passages)
    const seconds = (performance.now() - begun) / 1000
    ingested[id] = passages.length
    stored[id] = await documents.count()
    rows.push([id, archive.presidents.join(', '), passages.length, Math.round(passages.length / seconds)])
  }
  show.table(['tenant', 'presidents', 'passages', 'per second'], rows)
  show.claim('Every tenant has its own passages and no others', stored, ingested)
}

/** Searches each tenant's documents, by vectors and by words. */
export const searchDocuments: DemoStep = async (run) => {
  run.show.section('Search')
  for (const [key, archive] of Object.entries(ARCHIVES)) {
    const hits = await search(run, key as Key, archive.question)
    run.show.claim('The best passage is about it', hits[0] !== undefined && archive.answer.test(hits[0].content), true)
  }
  const seen: Record<string, string[]> = {}
  const own: Record<string, string[]> = {}
  for (const [key, archive] of Object.entries(ARCHIVES)) {
    const hits = await search(run, key as Key, COMMON_QUESTION, 50)
    seen[key] = [...new Set(hits.map((hit) => hit.id.replace(/-\d{4}-\d{3}$/, '')))].sort()
    own[key] = archive.presidents.map((name) => name.toLowerCase().replaceAll(' ', '-')).sort()
  }
  run.show.claim(
    `"${COMMON_QUESTION}", asked in all three archives: each of 150 hits is the asking tenant's own`,
    seen,
    own,
  )
}

async function search({ show, database, rowhouse, embed }: DemoRun, key: Key, question: string, limit = 3) {
  const id = database.tenantIds[key]
  const documents = rowhouse.tenant(id).documents(DEMO_COLLECTION, { embed })
  const hits = await documents.search({ mode: 'hybrid', match: 'any', text: question, limit })
  if (limit > 3) return hits
  show.code(`${id}: "${question}"`)
  show.table(
    ['score', 'president', 'year', 'passage'],
    hits.map((hit) => [
      hit.score,
      String(hit.metadata.president),
      String(hit.metadata.year),
      excerpt(hit.content, question, EXCERPT_LENGTH),
    ]),
  )
  return hits
}
