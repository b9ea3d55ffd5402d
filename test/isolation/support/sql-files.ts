import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'

const FUNCTIONS = join(import.meta.dirname, '../../../sql/functions')

/** The text of one of the re-creatable files. */
export function functionsFile(name: string): Promise<string> {
  return readFile(join(FUNCTIONS, name), 'utf8')
}

/** The names of all of them, in the order in which they are applied. */
export async function functionsFiles(): Promise<string[]> {
  return (await readdir(FUNCTIONS)).filter((name) => name.endsWith('.sql')).sort()
}
