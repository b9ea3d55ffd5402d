import { beforeAll, describe, expect, test } from 'vitest'
import { createHashingEmbedder } from '../../src/demo/embed.ts'
import { loadPassages, type Passage } from '../../src/demo/passages.ts'
import type { EmbedFunction } from '../../src/documents/embed.ts'
import { RETRIEVAL_QUERIES } from './retrieval-queries.ts'

let corpus: string[]
let passages: Passage[]
let embed: EmbedFunction

beforeAll(async () => {
  const background = await loadPassages(['Herbert Hoover', 'Harry S Truman', 'Andrew Johnson', 'James Buchanan'])
  corpus = background.map((passage) => passage.content)
  passages = await loadPassages(['Abraham Lincoln', 'Franklin D Roosevelt', 'John F Kennedy', 'Lyndon B Johnson'])
  embed = createHashingEmbedder(corpus)
})

describe('an embedding', () => {
  test('has the asked dimensions and length 1, for any text', async () => {
    for (const dimensions of [8, 256, 384]) {
      const embeddings = await createHashingEmbedder(corpus, { dimensions })([
        'war and peace',
        '',
        'the of and',
        '日本',
      ])
      for (const embedding of embeddings) {
        expect(embedding).toHaveLength(dimensions)
        expect(Math.hypot(...embedding)).toBeCloseTo(1, 12)
      }
    }
  })

  test('is the same for the same corpus, text and seed, and another for another seed', async () => {
    const texts = ['The state of the Union is strong.', 'unemployment insurance']
    expect(await createHashingEmbedder(corpus)(texts)).toEqual(await embed(texts))
    expect(await createHashingEmbedder(corpus, { seed: 2 })(texts)).not.toEqual(await embed(texts))
  })

  test('does not change between releases', async () => {
    const [embedding] = await createHashingEmbedder(['war'], { dimensions: 8 })(['peace'])
    expect(embedding!.map((value) => Math.sign(value))).toMatchInlineSnapshot(`
      [
        0,
        -1,
        0,
        -1,
        0,
        0,
        -1,
        0,
      ]
    `)
  })

  test('keeps the order of the texts', async () => {
    const [first, second] = await embed(['navy', 'farmers'])
    expect([second, first]).toEqual(await embed(['farmers', 'navy']))
  })

  test('ignores inflection, case and stop words', async () => {
    const [one, other] = await embed(['The settlers of these lands', 'settlers land'])
    expect(similarity(one!, other!)).toBeCloseTo(1, 12)
  })

  test.each([0, 7, 1.5, Number.NaN])('is refused with %d dimensions', (dimensions) => {
    expect(() => createHashingEmbedder(corpus, { dimensions })).toThrow(/whole number of at least 8 dimensions/)
  })
})

describe('retrieval', () => {
  test('a related text is closer than an unrelated one', async () => {
    const [query, related, unrelated] = await embed([
      'pensions for old workers',
      'Every worker who grows old has earned a pension that he can live on.',
      'The navy has built forty ships and sent them to the Mediterranean.',
    ])
    expect(similarity(query!, related!)).toBeGreaterThan(similarity(query!, unrelated!) + 0.2)
  })

  test('finds passages about the matter of a question', async () => {
    const score = await scoreRetrieval(embed)
    console.log(
      `retrieval over ${passages.length} passages and ${RETRIEVAL_QUERIES.length} questions: ` +
        `${format(score.precision)} of the first five are about the matter ` +
        `(chance: ${format(score.chance)}), mean reciprocal rank ${format(score.reciprocalRank)}`,
    )
    expect(score.precision).toBeGreaterThan(0.6)
    expect(score.reciprocalRank).toBeGreaterThan(0.8)
  })

  test('negative control: embeddings of other texts find nothing', async () => {
    const reversed: EmbedFunction = async (texts) =>
      texts.length > 1 ? (await embed(texts)).reverse() : await embed(texts)
    const score = await scoreRetrieval(reversed)
    expect(score.precision).toBeLessThan(0.3)
  })
})

/** Asks every question, and compares what comes back with what the pattern of the question calls relevant. */
async function scoreRetrieval(embedder: EmbedFunction) {
  const embeddings = await embedder(passages.map((passage) => passage.content))
  let precision = 0
  let reciprocalRank = 0
  let chance = 0
  for (const [query, relevant] of RETRIEVAL_QUERIES) {
    const [embedding] = await embedder([query])
    const ranked = passages
      .map(({ content }, index) => ({ content, score: similarity(embedding!, embeddings[index]!) }))
      .sort((a, b) => b.score - a.score)
      .map(({ content }) => relevant.test(content))
    precision += ranked.slice(0, 5).filter(Boolean).length / 5
    reciprocalRank += 1 / (ranked.indexOf(true) + 1)
    chance += ranked.filter(Boolean).length / ranked.length
  }
  const count = RETRIEVAL_QUERIES.length
  return { precision: precision / count, reciprocalRank: reciprocalRank / count, chance: chance / count }
}

function similarity(a: readonly number[], b: readonly number[]): number {
  return a.reduce((sum, value, index) => sum + value * b[index]!, 0)
}

function format(value: number): string {
  return value.toFixed(2)
}
