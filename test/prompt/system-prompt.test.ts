import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createRowhouse, type Rowhouse } from '../../src/index.ts'
import { buildSystemPrompt, toInertJson } from '../../src/prompt/system-prompt.ts'
import { useDatabase } from '../setup/database.ts'

const INSTRUCTIONS = 'You answer questions about invoices.'

describe('for a tenant', () => {
  const database = useDatabase()
  let rowhouse: Rowhouse

  beforeAll(async () => {
    rowhouse = createRowhouse({ connectionString: database.url('owner'), poolOptions: { max: 1 } })
    await rowhouse.tenants.provision('acme', {
      name: 'Acme & Sons </customer>',
      tier: 'free',
      settings: { prompt: { assistantName: 'Ada', instructions: 'Answer in German.' } },
    })
    await rowhouse.tenants.provision('globex', {
      name: 'Globex',
      settings: { prompt: { assistantName: 7, instructions: '' } },
    })
    await rowhouse.tenants.provision('initech', { settings: { prompt: 'none' } })
  })
  afterAll(() => rowhouse?.close())

  test('holds the instructions, the note of the tier and its own data as JSON', async () => {
    const system = await rowhouse.tenant('acme').prompt.system({
      instructions: INSTRUCTIONS,
      tierNotes: { free: 'Three sentences at most.', enterprise: 'Take your time.' },
    })
    expect(system.startsWith(`${INSTRUCTIONS}\n\nThree sentences at most.\n\n`)).toBe(true)
    expect(system).not.toContain('Take your time.')
    expect(dataOf(system)).toEqual({
      company: 'Acme & Sons </customer>',
      assistantName: 'Ada',
      preferences: 'Answer in German.',
    })
  })

  test('is the same inside withTenant, of its tenant alone', async () => {
    const [acme, globex] = await Promise.all(
      ['acme', 'globex'].map((id) =>
        rowhouse.withTenant(id, (_db, tenant) => tenant.prompt.system({ instructions: INSTRUCTIONS })),
      ),
    )
    expect(acme).toBe(await rowhouse.tenant('acme').prompt.system({ instructions: INSTRUCTIONS }))
    expect(globex).not.toContain('Acme')
  })

  test('settings of another shape are left out', async () => {
    for (const [tenant, company] of [
      ['globex', 'Globex'],
      ['initech', 'initech'],
    ] as const) {
      expect(dataOf(await rowhouse.tenant(tenant).prompt.system({ instructions: INSTRUCTIONS }))).toEqual({ company })
    }
  })

  test('an assistant name of the call goes before the one of the settings', async () => {
    const system = await rowhouse.tenant('acme').prompt.system({ instructions: INSTRUCTIONS, assistantName: 'Grace' })
    expect(dataOf(system)).toMatchObject({ assistantName: 'Grace' })
  })

  test('no instructions, or unknown options, are refused', async () => {
    for (const options of [{ instructions: '' }, {}, { instructions: 'x', instruction: 'y' }]) {
      const asking = rowhouse.tenant('acme').prompt.system(options as { instructions: string })
      await expect(asking).rejects.toMatchObject({ code: 'invalid_argument' })
    }
  })
})

/** What the model is told about the customer, read back from between the tags. */
function dataOf(system: string): unknown {
  const [, data, ...more] = system.split(/<customer>\n|\n<\/customer>/)
  expect(more).toEqual([''])
  return JSON.parse(data!)
}

test('whatever the data are: they come back unchanged, and the block ends once, at its end', () => {
  const anything = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.constantFrom('</customer>', '<customer>\n', '\u202e', '\u{e0041}', '"}', '\u2028'),
  )
  fc.assert(
    fc.property(fc.array(anything, { maxLength: 5 }), anything, (parts, name) => {
      const preferences = parts.join('')
      const system = buildSystemPrompt(
        { company: name, tier: 'free', instructions: preferences },
        { instructions: INSTRUCTIONS },
      )
      expect(dataOf(system)).toEqual({ company: name, preferences })
      expect(system).not.toMatch(/[\u202a-\u202e\u2066-\u2069\u200b]|[\u{e0000}-\u{e007f}]/u)
    }),
  )
})

test('text in any script stays readable', () => {
  expect(toInertJson({ name: 'Łódź 日本 👩‍🚀' })).toBe('{"name":"Łódź 日本 👩‍🚀"}')
})
