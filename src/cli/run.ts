import { parseArgs } from 'node:util'
import { RowhouseError } from '../errors.ts'
import { packageVersion } from '../migrate/package-version.ts'
import { type Command, EXIT_FAILURE, EXIT_OK, EXIT_USAGE, type OptionValues, UsageError } from './command.ts'
import { COMMANDS } from './commands/index.ts'
import { COMMON_OPTIONS, commandHelp, overview } from './help.ts'
import { nearest } from './nearest.ts'
import type { Output } from './output.ts'

/** Runs one command line and returns the exit code. Never throws. */
export async function runCommandLine(
  arguments_: readonly string[],
  output: Output,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<number> {
  try {
    return await dispatch(arguments_, output, environment)
  } catch (error) {
    const debug = arguments_.includes('--debug')
    printError(error, output, debug)
    return error instanceof UsageError ? EXIT_USAGE : EXIT_FAILURE
  }
}

async function dispatch(
  arguments_: readonly string[],
  output: Output,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<number> {
  const [name, ...rest] = arguments_
  switch (name) {
    case undefined:
      output.note(overview(COMMANDS))
      return EXIT_USAGE
    case '--help':
    case '-h':
      output.line(overview(COMMANDS))
      return EXIT_OK
    case '--version':
    case '-v':
      output.line(packageVersion())
      return EXIT_OK
    case 'help': {
      const topic = rest.find((argument) => !argument.startsWith('-'))
      output.line(topic === undefined ? overview(COMMANDS) : commandHelp(findCommand(topic)))
      return EXIT_OK
    }
  }
  if (name.startsWith('-')) throw unknownOption(name, ['help', 'version'], 'rowhouse --help')
  const command = findCommand(name)
  const { values, positionals } = parse(command, rest)
  if (values.help === true) {
    output.line(commandHelp(command))
    return EXIT_OK
  }
  return command.run({ options: values, positionals, output, environment })
}

function findCommand(name: string): Command {
  const command = COMMANDS.find((candidate) => candidate.name === name)
  if (command !== undefined) return command
  const names = [...COMMANDS.map((candidate) => candidate.name), 'help']
  const meant = nearest(name, names)
  throw new UsageError(
    `There is no command "${name}".`,
    meant === undefined ? `Commands: ${names.join(', ')}.` : `Did you mean: rowhouse ${meant}`,
  )
}

function parse(command: Command, rest: readonly string[]): { values: OptionValues; positionals: string[] } {
  const options = { ...command.options, ...COMMON_OPTIONS }
  const help = `rowhouse help ${command.name}`
  const { values, positionals, tokens } = parseArgs({
    args: [...rest],
    options: parserOptions(options),
    strict: false,
    tokens: true,
  })
  for (const token of tokens) {
    if (token.kind === 'positional' && (command.positionals ?? []).length === 0) {
      throw new UsageError(`${command.name} takes no argument "${token.value}".`, `See: ${help}`)
    }
    if (token.kind !== 'option') continue
    const option = options[token.name]
    if (option === undefined) throw unknownOption(token.rawName, Object.keys(options), help)
    if (option.type === 'string' && (!token.value || (!token.inlineValue && token.value.startsWith('-')))) {
      throw new UsageError(`${token.rawName} needs a value <${option.value ?? 'value'}>.`, `See: ${help}`)
    }
    if (option.type === 'boolean' && token.value !== undefined) {
      throw new UsageError(`${token.rawName} takes no value.`, `See: ${help}`)
    }
  }
  return { values: values as OptionValues, positionals }
}

function parserOptions(options: Command['options']) {
  return Object.fromEntries(
    Object.entries(options).map(([name, { type, short }]) => [name, short === undefined ? { type } : { type, short }]),
  )
}

function unknownOption(rawName: string, names: readonly string[], help: string): UsageError {
  const meant = nearest(rawName.replace(/^-+/, ''), names)
  return new UsageError(
    `There is no option ${rawName}.`,
    meant === undefined ? `See: ${help}` : `Did you mean --${meant}? See: ${help}`,
  )
}

/** One sentence and the mend; the stack only with --debug. */
function printError(error: unknown, output: Output, debug: boolean): void {
  const message = error instanceof Error ? error.message : String(error)
  output.note(`${output.style('red', 'error:')} ${message}`)
  if (error instanceof RowhouseError || error instanceof UsageError) output.note(`  ${error.hint}`)
  if (!debug) {
    if (!(error instanceof RowhouseError || error instanceof UsageError))
      output.note('  Run again with --debug for more.')
    return
  }
  if (error instanceof Error) output.note(output.style('dim', error.stack ?? ''))
  if (error instanceof Error && error.cause instanceof Error) output.note(`caused by ${error.cause.stack}`)
}
