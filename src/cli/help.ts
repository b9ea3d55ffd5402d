import { packageVersion } from '../migrate/package-version.ts'
import type { Command, CommandOption } from './command.ts'

/** Options that every command takes. */
export const COMMON_OPTIONS: Readonly<Record<string, CommandOption>> = {
  help: { type: 'boolean', short: 'h', description: 'Show this help' },
  debug: { type: 'boolean', description: 'Show the stack trace of an error' },
}

export function overview(commands: readonly Command[]): string {
  const width = Math.max(...commands.map(({ name }) => name.length))
  return [
    `rowhouse ${packageVersion()}: multi-tenancy inside your Postgres, by row-level security`,
    '',
    'Usage: rowhouse <command> [options]',
    '',
    'Commands:',
    ...commands.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`),
    '',
    'Options:',
    ...optionLines({
      help: COMMON_OPTIONS.help!,
      version: { type: 'boolean', short: 'v', description: 'Show the version' },
    }),
    '',
    'Most commands need a database: DATABASE_URL, or --database-url. With --json they print what a program reads.',
    'Exit codes: 0 it is done and all is well, 1 it failed or found something, 2 the command line is wrong.',
    '',
    'Help for one command: rowhouse help <command>',
  ].join('\n')
}

/** The commands that begin with one word. */
export function groupHelp(group: string, commands: readonly Command[]): string {
  const lines = commands.map(
    ({ name, positionals = [], summary }) => [[name, ...positionals].join(' '), summary] as const,
  )
  const width = Math.max(...lines.map(([usage]) => usage.length))
  return [
    `Usage: rowhouse ${group} <what> [options]`,
    '',
    'Commands:',
    ...lines.map(([usage, summary]) => `  ${usage.padEnd(width)}  ${summary}`),
    '',
    `Help for one: rowhouse help ${commands[0]!.name}`,
  ].join('\n')
}

export function commandHelp(command: Command): string {
  const positionals = (command.positionals ?? []).map((name) => ` ${name}`).join('')
  return [
    `Usage: rowhouse ${command.name}${positionals} [options]`,
    '',
    command.description,
    '',
    'Options:',
    ...optionLines({ ...command.options, ...COMMON_OPTIONS }),
    '',
    'Examples:',
    ...command.examples.map((example) => `  ${example}`),
  ].join('\n')
}

function optionLines(options: Readonly<Record<string, CommandOption>>): string[] {
  const rows = Object.entries(options).map(([name, { short, value, description }]) => {
    const flag = `${short === undefined ? '    ' : `-${short}, `}--${name}${value === undefined ? '' : ` <${value}>`}`
    return [flag, description] as const
  })
  const width = Math.max(...rows.map(([flag]) => flag.length))
  return rows.map(([flag, description]) => `  ${flag.padEnd(width)}  ${description}`)
}
