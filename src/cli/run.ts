import { parseArgs } from 'node:util'
import { RowhouseError, TenantMovedError } from '../errors.ts'
import { packageVersion } from '../migrate/package-version.ts'
import { checkValues } from './check-values.ts'
import {
  type Command,
  type CommandContext,
  EXIT_FAILURE,
  EXIT_OK,
  EXIT_USAGE,
  type OptionValues,
  UsageError,
} from './command.ts'
import { COMMANDS } from './commands/index.ts'
import { COMMON_OPTIONS, commandHelp, groupHelp, overview } from './help.ts'
import { nearest } from './nearest.ts'
import type { Output } from './output.ts'
import { placementsHint } from './placements.ts'

/** What a command line runs in. */
export type Surroundings = Pick<CommandContext, 'output' | 'environment' | 'ask'>

/** Runs one command line and returns the exit code. Never throws. */
export async function runCommandLine(arguments_: readonly string[], surroundings: Surroundings): Promise<number> {
  const { output } = surroundings
  try {
    return await dispatch(arguments_, surroundings)
  } catch (error) {
    const debug = arguments_.includes('--debug')
    printError(error, output, debug)
    return error instanceof UsageError ? EXIT_USAGE : EXIT_FAILURE
  }
}

async function dispatch(arguments_: readonly string[], surroundings: Surroundings): Promise<number> {
  const { output } = surroundings
  const [name] = arguments_
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
      const topic = arguments_.slice(1).filter((argument) => !argument.startsWith('-'))
      output.line(topic.length === 0 ? overview(COMMANDS) : helpOf(topic))
      return EXIT_OK
    }
  }
  if (name.startsWith('-')) throw unknownOption(name, ['help', 'version'], 'rowhouse --help')
  if (arguments_.length === 2 && ['--help', '-h'].includes(arguments_[1]!)) {
    output.line(helpOf([name]))
    return EXIT_OK
  }
  const { command, rest } = findCommand(arguments_)
  const { values, positionals } = parse(command, rest)
  if (values.help === true) {
    output.line(commandHelp(command))
    return EXIT_OK
  }
  checkPositionals(command, positionals)
  checkValues(command, values, positionals)
  return command.run({ ...surroundings, command, options: values, positionals })
}

/** The help for a command, or for those that begin with one word. */
function helpOf(topic: readonly string[]): string {
  const group = COMMANDS.filter(({ name }) => name.startsWith(`${topic[0]} `))
  if (topic.length === 1 && group.length > 0) return groupHelp(topic[0]!, group)
  return commandHelp(findCommand(topic).command)
}

/** The command that the first word names, or the first two, and what comes after it. */
function findCommand(arguments_: readonly string[]): { command: Command; rest: readonly string[] } {
  for (const words of [2, 1]) {
    const name = arguments_.slice(0, words).join(' ')
    const command = COMMANDS.find((candidate) => candidate.name === name)
    if (command !== undefined) return { command, rest: arguments_.slice(words) }
  }
  const [group = '', action] = arguments_
  const actions = COMMANDS.filter((candidate) => candidate.name.startsWith(`${group} `))
  const named = action !== undefined && !action.startsWith('-')
  if (actions.length > 0 && !named) {
    throw new UsageError(`${group} what?`, `Commands: ${actions.map((candidate) => candidate.name).join(', ')}.`)
  }
  const name = actions.length > 0 ? `${group} ${action}` : group
  const names = actions.length > 0 ? actions.map((candidate) => candidate.name) : [...firstWords(), 'help']
  const meant = nearest(name, names)
  throw new UsageError(
    `There is no command "${name}".`,
    meant === undefined ? `Commands: ${names.join(', ')}.` : `Did you mean: rowhouse ${meant}`,
  )
}

function firstWords(): string[] {
  return [...new Set(COMMANDS.map(({ name }) => name.split(' ')[0]!))]
}

function checkPositionals({ name, positionals: expected = [] }: Command, positionals: readonly string[]): void {
  const help = `See: rowhouse help ${name}`
  const missing = expected[positionals.length]
  if (missing?.startsWith('<')) throw new UsageError(`${name} needs ${missing}.`, help)
  const extra = positionals[expected.length]
  if (extra !== undefined) throw new UsageError(`${name} takes no argument "${extra}".`, help)
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

/** What to do on the command line, where the error says what to do in a program. */
function hintOf(error: RowhouseError | UsageError): string {
  if (error instanceof TenantMovedError && error.placement !== undefined) return placementsHint([error.placement])
  return error.hint
}

/** One sentence and the mend; the stack only with --debug. */
function printError(error: unknown, output: Output, debug: boolean): void {
  const message = error instanceof Error ? error.message : String(error)
  output.note(`${output.style('red', 'error:')} ${message}`)
  if (error instanceof RowhouseError || error instanceof UsageError) output.note(`  ${hintOf(error)}`)
  if (!debug) {
    if (!(error instanceof RowhouseError || error instanceof UsageError))
      output.note('  Run again with --debug for more.')
    return
  }
  if (error instanceof Error) output.note(output.style('dim', error.stack ?? ''))
  if (error instanceof Error && error.cause instanceof Error) output.note(`caused by ${error.cause.stack}`)
}
