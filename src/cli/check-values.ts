import { type Command, type OptionValues, UsageError } from './command.ts'

/** What arguments and options of these names are, wherever they occur. */
const KINDS: Readonly<Record<string, { readonly pattern: RegExp; readonly meaning: string }>> = {
  tenant: { pattern: /^[a-zA-Z0-9_-]{1,64}$/, meaning: 'an id of 1 to 64 letters, digits, underscores or hyphens' },
  tier: {
    pattern: /^[a-z][a-z0-9_-]{0,31}$/,
    meaning: '1 to 32 lower-case letters, digits, underscores or hyphens that begin with a letter',
  },
}

/** Refuses values that can't be right, before anything connects. */
export function checkValues(command: Command, options: OptionValues, positionals: readonly string[]): void {
  const { positionals: expected = [] } = command
  for (const [index, value] of positionals.entries()) check(command, expected[index]!, value)
  for (const [name, value] of Object.entries(options)) {
    const choices = command.options[name]?.choices
    if (typeof value !== 'string') continue
    if (choices === undefined) check(command, `--${name}`, value)
    else if (!choices.includes(value)) {
      throw new UsageError(`--${name} is ${choices.join(', ')}, not "${value}".`, `See: rowhouse help ${command.name}`)
    }
  }
}

function check(command: Command, shown: string, value: string): void {
  const kind = KINDS[shown.replace(/[^a-z]/g, '')]
  if (kind === undefined || kind.pattern.test(value)) return
  throw new UsageError(`${shown} is ${kind.meaning}; the given one is not.`, `See: rowhouse help ${command.name}`)
}
