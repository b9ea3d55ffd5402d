import { type CommandContext, UsageError } from './command.ts'

/**
 * Has the person at the terminal type a word before something is destroyed. Where nobody sits at one, `--yes` must have
 * been given.
 */
export async function confirm({ options, ask }: CommandContext, what: string, word: string): Promise<void> {
  if (options.yes === true) return
  if (ask === undefined) throw new UsageError(`${what} Nobody is there to confirm it.`, 'Give --yes.')
  const answer = await ask(`${what} Type ${word} to go on: `)
  if (answer.trim() !== word) throw new UsageError('Not confirmed; nothing was changed.', `The answer was not ${word}.`)
}
