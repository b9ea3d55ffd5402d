// Every TypeScript block of the documentation compiles against the library as it is.
import { execFile } from 'node:child_process'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { beforeAll, expect, test } from 'vitest'
import { type CodeBlock, collectCodeBlocks } from './code-blocks.ts'

const ROOT = new URL('../../', import.meta.url).pathname.replace(/\/$/, '')
/** Inside the project, so that packages resolve as they do for its own files. */
const FOLDER = `${ROOT}/.cache/docs`

/**
 * Names that a snippet may use without declaring them: what the reader has in front of him at that point, an application
 * table and an instance. A block that declares one of them itself shadows it.
 */
const SURROUNDINGS = `
import type * as library from 'rowhouse'
declare global {
  interface AppTables {
    invoices: {
      id: import('kysely').Generated<string>
      tenant_id: import('kysely').Generated<string>
      number: string
      amount: number
      paid: import('kysely').Generated<boolean>
    }
  }
  type EmbedFunction = library.EmbedFunction
  type TokenCounter = library.TokenCounter
  const rowhouse: library.Rowhouse<AppTables>
  const connectionString: string
  const appUrl: string
  const sealKey: string
  const signingKey: string
  const publicKey: string
  const certificate: string
  const tenantId: string
  const userId: string
  const sessionId: string
  const messageId: string
  const requestId: string
  const embedding: number[]
  const embed: library.EmbedFunction
  const db: import('kysely').Kysely<AppTables>
  const tenant: library.TenantContext<AppTables>
  const signal: AbortSignal
  const appSettings: library.SettingsDefinition<{
    models: string[]
    promptPrefix: string
    retentionDays: number
    features: { search: boolean; agents: boolean }
  }>
  const apiKey: string
  const pool: import('pg').Pool
  const logger: { info(fields: object, message: string): void; warn(fields: object, message: string): void }
  const request: { headers: Headers }
  const publicTexts: readonly string[]
  const acme: library.TenantContext<AppTables>
  function retryLater(): Promise<void>
  const openai: {
    embeddings: { create(request: object): Promise<{ data: { embedding: number[] }[] }> }
  }
  function complete(
    prompt: string,
    options: { signal: AbortSignal },
  ): Promise<{ text: string; usage: { input: number; output: number } }>
  function work(db: import('kysely').Kysely<AppTables>): Promise<void>
}
`

/** Packages that snippets show the use of and that are not installed here; test/compat has the real ones. */
const PACKAGES = ['@aws-sdk/client-kms', 'graphile-worker', 'keyv', 'pg-boss', 'unstorage', '@langchain/langgraph']
  .map((name) => `declare module '${name}'\n`)
  .join('')

/** Names that the library, and the file that a doc comment stands in, export: a snippet may use them without importing. */
async function exportedNames(block: CodeBlock): Promise<Map<string, string>> {
  const files = [`${ROOT}/src/index.ts`, ...(block.file.startsWith('src/') ? [`${ROOT}/${block.file}`] : [])]
  const names = new Map<string, string>()
  for (const file of files) {
    const module = block.file === 'src/cli/main.ts' ? {} : await import(file)
    for (const name of Object.keys(module)) if (!names.has(name)) names.set(name, file)
  }
  return names
}

/** A module that compiles when the block does. A block with imports is a whole program; any other stands in a function. */
async function toModule(block: CodeBlock): Promise<string> {
  if (/^\s*import\s/m.test(block.code)) return `${block.code}\nexport {}\n`
  const imports = [...(await exportedNames(block))]
    .filter(([name]) => new RegExp(`\\b${name}\\b`).test(block.code))
    .filter(([name]) => !new RegExp(`\\b(const|function|class) (\\{[^}]*)?\\b${name}\\b`).test(block.code))
    .map(([name, file]) => `import { ${name} } from '${file}'`)
  return `${imports.join('; ')}; export async function example() {\n${block.code}\n}\n`
}

/** How many lines of the module stand before the block. */
function linesBefore(block: CodeBlock): number {
  return /^\s*import\s/m.test(block.code) ? 0 : 1
}

let blocks: CodeBlock[]
let compilerOutput: string

beforeAll(async () => {
  blocks = (await collectCodeBlocks(ROOT)).filter((block) => block.language === 'ts' || block.language === 'typescript')
  await rm(FOLDER, { recursive: true, force: true })
  await mkdir(FOLDER, { recursive: true })
  await writeFile(`${FOLDER}/surroundings.d.ts`, SURROUNDINGS)
  await writeFile(`${FOLDER}/packages.d.ts`, PACKAGES)
  for (const [index, block] of blocks.entries()) await writeFile(`${FOLDER}/block-${index}.ts`, await toModule(block))
  const configuration = {
    extends: `${ROOT}/tsconfig.json`,
    compilerOptions: {
      noUnusedLocals: false,
      noUnusedParameters: false,
      rewriteRelativeImportExtensions: false,
      allowImportingTsExtensions: true,
      paths: {
        rowhouse: [`${ROOT}/src/index.ts`],
        'rowhouse/http': [`${ROOT}/src/http/index.ts`],
        'rowhouse/express': [`${ROOT}/src/express/index.ts`],
        'rowhouse/fastify': [`${ROOT}/src/fastify/index.ts`],
        'rowhouse/graphile-worker': [`${ROOT}/src/graphile-worker/index.ts`],
        'rowhouse/pg-boss': [`${ROOT}/src/pg-boss/index.ts`],
        'rowhouse/hono': [`${ROOT}/src/hono/index.ts`],
        'rowhouse/next': [`${ROOT}/src/next/index.ts`],
        'rowhouse/ws': [`${ROOT}/src/ws/index.ts`],
        'rowhouse/embedded': [`${ROOT}/src/embedded/index.ts`],
        'rowhouse/langgraph': [`${ROOT}/src/langgraph/index.ts`],
        'rowhouse/keyv': [`${ROOT}/src/keyv/index.ts`],
        'rowhouse/unstorage': [`${ROOT}/src/unstorage/index.ts`],
        'rowhouse/testing': [`${ROOT}/src/testing/index.ts`],
      },
    },
    include: [`${FOLDER}/*.ts`],
    exclude: [],
  }
  await writeFile(`${FOLDER}/tsconfig.json`, JSON.stringify(configuration))
  const compiler = promisify(execFile)(`${ROOT}/node_modules/.bin/tsc`, ['-p', `${FOLDER}/tsconfig.json`], {
    cwd: ROOT,
  })
  compilerOutput = await compiler.then(
    (result) => result.stdout,
    (error: { stdout: string }) => error.stdout,
  )
}, 120_000)

test('there are blocks to compile, in the README and in doc comments', () => {
  expect(blocks.filter((block) => block.file === 'README.md').length).toBeGreaterThan(3)
  expect(blocks.filter((block) => block.file.startsWith('src/')).length).toBeGreaterThan(5)
})

test('every TypeScript block compiles', () => {
  const failures = compilerOutput
    .split('\n')
    .filter(Boolean)
    .map((line) =>
      line.replace(/^.*?block-(\d+)\.ts\((\d+),\d+\)/, (_, index: string, row: string) => {
        const block = blocks[Number(index)]!
        return `${block.file}:${block.line + Number(row) - linesBefore(block)}`
      }),
    )
  expect(failures).toEqual([])
})

test('a block that does not compile is noticed', async () => {
  await writeFile(
    `${FOLDER}/block-wrong.ts`,
    "import { createRowhouse } from 'rowhouse'\ncreateRowhouse({ conectionString: '' })\n",
  )
  const compiler = promisify(execFile)(`${ROOT}/node_modules/.bin/tsc`, ['-p', `${FOLDER}/tsconfig.json`], {
    cwd: ROOT,
  })
  const output = await compiler.then(
    () => '',
    (error: { stdout: string }) => error.stdout,
  )
  await rm(`${FOLDER}/block-wrong.ts`)
  expect(output).toContain('block-wrong.ts')
}, 120_000)
