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
  const rowhouse: library.Rowhouse<AppTables>
  const connectionString: string
  const tenantId: string
  const userId: string
  const requestId: string
  const embedding: number[]
  const embed: library.EmbedFunction
  const db: import('kysely').Kysely<AppTables>
  const tenant: library.TenantContext<AppTables>
  const signal: AbortSignal
  const pool: import('pg').Pool
  function retryLater(): Promise<void>
  function work(db: import('kysely').Kysely<AppTables>): Promise<void>
}
`

function toModule(block: CodeBlock): string {
  const imports = /^\s*import\s/m.test(block.code)
    ? ''
    : `import * as everything from 'rowhouse'\nconst { createRowhouse, getCurrentTenant, RowhouseError, NoTenantContextError, TenantNotFoundError, TenantSuspendedError, TenantInactiveError, TenantMismatchError, ConnectionTaintedError, createTenantContext } = everything\n`
  return `${imports}export {}\n${block.code}\n`
}

let blocks: CodeBlock[]
let compilerOutput: string

beforeAll(async () => {
  blocks = (await collectCodeBlocks(ROOT)).filter((block) => block.language === 'ts' || block.language === 'typescript')
  await rm(FOLDER, { recursive: true, force: true })
  await mkdir(FOLDER, { recursive: true })
  await writeFile(`${FOLDER}/surroundings.d.ts`, SURROUNDINGS)
  for (const [index, block] of blocks.entries()) await writeFile(`${FOLDER}/block-${index}.ts`, toModule(block))
  const configuration = {
    extends: `${ROOT}/tsconfig.json`,
    compilerOptions: {
      noUnusedLocals: false,
      noUnusedParameters: false,
      paths: {
        rowhouse: [`${ROOT}/src/index.ts`],
        'rowhouse/embedded': [`${ROOT}/src/embedded/index.ts`],
        'rowhouse/testing': [`${ROOT}/src/testing/index.ts`],
      },
    },
    include: [`${FOLDER}/*.ts`],
    exclude: [],
  }
  await writeFile(`${FOLDER}/tsconfig.json`, JSON.stringify(configuration))
  const compiler = promisify(execFile)(`${ROOT}/node_modules/.bin/tsc`, ['-p', `${FOLDER}/tsconfig.json`], { cwd: ROOT })
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
        const added = toModule(block).indexOf(block.code) === 0 ? 0 : toModule(block).split(block.code)[0]!.split('\n').length - 1
        return `${block.file}:${block.line + Number(row) - added}`
      }),
    )
  expect(failures).toEqual([])
})

test('a block that does not compile is noticed', async () => {
  await writeFile(`${FOLDER}/block-wrong.ts`, "import { createRowhouse } from 'rowhouse'\ncreateRowhouse({ conectionString: '' })\n")
  const compiler = promisify(execFile)(`${ROOT}/node_modules/.bin/tsc`, ['-p', `${FOLDER}/tsconfig.json`], { cwd: ROOT })
  const output = await compiler.then(
    () => '',
    (error: { stdout: string }) => error.stdout,
  )
  await rm(`${FOLDER}/block-wrong.ts`)
  expect(output).toContain('block-wrong.ts')
}, 120_000)
