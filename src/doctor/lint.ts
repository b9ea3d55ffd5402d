import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { FindingLevel } from './finding.ts'

/** One file of `sql/doctor`: what its head says, and its query. */
export interface Lint {
  /** Stable, and the name of the file, for example `row_security_off`. */
  readonly name: string
  /** The highest level of its findings. */
  readonly level: FindingLevel
  /** What is wrong. */
  readonly summary: string
  /** What that leads to. */
  readonly ramification: string
  /** How it is mended. */
  readonly resolution: string
  /** A select of level, table, object, detail and mend. */
  readonly query: string
}

const FIELDS = ['name', 'level', 'summary', 'ramification', 'resolution'] as const

/** The lints of a folder, in the order of their names. */
export async function loadLints(folder: string): Promise<Lint[]> {
  const files = (await readdir(folder)).filter((name) => name.endsWith('.sql')).sort()
  return Promise.all(files.map(async (file) => parseLint(file, await readFile(join(folder, file), 'utf8'))))
}

/** Throws where the head is not complete, which a test would see first. */
export function parseLint(file: string, text: string): Lint {
  const lines = text.split('\n')
  const head = FIELDS.map((field, index) => {
    const value = new RegExp(`^-- ${field}: (\\S.*)$`).exec(lines[index] ?? '')?.[1]
    if (value === undefined) throw new Error(`${file}: line ${index + 1} has to be "-- ${field}: ...".`)
    return [field, value] as const
  })
  const lint = Object.fromEntries(head) as Record<(typeof FIELDS)[number], string>
  if (`${lint.name}.sql` !== file) throw new Error(`${file}: the file has the name of its lint.`)
  if (!/^(error|warning|info)$/.test(lint.level)) throw new Error(`${file}: the level is error, warning or info.`)
  return { ...lint, level: lint.level as FindingLevel, query: lines.slice(FIELDS.length).join('\n').trim() }
}
