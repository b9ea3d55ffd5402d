import type { Output } from './output.ts'

/** One option of a command, as `--name` or `--name <value>`. */
export interface CommandOption {
  readonly type: 'string' | 'boolean'
  /** One letter, for `-x`. */
  readonly short?: string
  /** What the value is, for the help text, for example `URL`. */
  readonly value?: string
  readonly description: string
  /** All that the value may be. */
  readonly choices?: readonly string[]
}

export type OptionValues = Readonly<Record<string, string | boolean | undefined>>

/** What a command is given to run. */
export interface CommandContext {
  readonly command: Command
  readonly options: OptionValues
  readonly positionals: readonly string[]
  readonly output: Output
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Asks the person at the terminal; undefined where there is none. */
  readonly ask?: ((question: string) => Promise<string>) | undefined
}

/**
 * A command of `rowhouse`. One file in `commands/` for each; a new one is added to the list in `commands/index.ts`.
 * Results go to standard output, progress and errors to standard error where they would disturb a result.
 */
export interface Command {
  /** One or two words, for example `migrate` or `tenant list`. */
  readonly name: string
  /** One line for the list of commands. */
  readonly summary: string
  /** Paragraphs for `rowhouse help <command>`. */
  readonly description: string
  readonly options: Readonly<Record<string, CommandOption>>
  /** The positional arguments: `<tenant>` must be given, `[table]` may be. */
  readonly positionals?: readonly string[]
  readonly examples: readonly string[]
  /** Returns the exit code: 0 for success, 1 for failure. Errors it throws are printed as one sentence and the mend. */
  run(context: CommandContext): Promise<number>
}

/** The command line itself was wrong: exit code 2. */
export class UsageError extends Error {
  readonly hint: string

  constructor(message: string, hint: string) {
    super(message)
    this.name = 'UsageError'
    this.hint = hint
  }
}

export const EXIT_OK = 0
export const EXIT_FAILURE = 1
export const EXIT_USAGE = 2
