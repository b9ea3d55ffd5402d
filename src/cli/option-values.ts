import { readFile } from 'node:fs/promises'
import { type OptionValues, UsageError } from './command.ts'

/** The value of an option that takes one. */
export function textOption(options: OptionValues, name: string): string | undefined {
  const value = options[name]
  return typeof value === 'string' ? value : undefined
}

/** An option that is a point in time. */
export function timeOption(options: OptionValues, name: string): Date | undefined {
  const given = textOption(options, name)
  if (given === undefined) return undefined
  const time = new Date(given)
  if (!Number.isNaN(time.getTime())) return time
  throw new UsageError(`--${name} is no time.`, 'For example: 2026-11-01, or 2026-11-01T12:00Z')
}

/** An option that is a number above 0. */
export function numberOption(options: OptionValues, name: string): number | undefined {
  const given = textOption(options, name)
  if (given === undefined) return undefined
  const number = Number(given)
  if (given.trim() !== '' && number > 0 && number < Number.POSITIVE_INFINITY) return number
  throw new UsageError(`--${name} is no number above 0.`, `For example: --${name} 1`)
}

/** What the file holds that an option names. */
export async function fileOption(options: OptionValues, name: string): Promise<string | undefined> {
  const file = textOption(options, name)
  if (file === undefined) return undefined
  return readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new UsageError(`The file of --${name} can't be read: ${error.message}.`, 'Name a file that exists.')
  })
}
