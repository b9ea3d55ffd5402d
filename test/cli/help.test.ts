// What an operator reads who has nothing but the command line.
import { describe, expect, test } from 'vitest'
import { COMMANDS } from '../../src/cli/commands/index.ts'
import { runCommand } from './run-command.ts'

const run = (...arguments_: string[]) => runCommand(arguments_, {})

/** Commands that print no result: they show something to a person. */
const WITHOUT_JSON = ['demo']

describe('every command', () => {
  test.each(COMMANDS.map((command) => [command.name, command] as const))('%s', async (name, command) => {
    const { exitCode, stdout } = await run('help', ...name.split(' '))
    expect(exitCode).toBe(0)
    expect(stdout).toMatch(new RegExp(`^Usage: rowhouse ${name} `))
    expect(stdout).toBe((await run(...name.split(' '), '--help')).stdout)
    // It says what it does, with examples that are commands.
    expect(command.description.length).toBeGreaterThan(15)
    expect(command.examples.length).toBeGreaterThan(0)
    for (const example of command.examples) expect(example).toContain(`rowhouse ${name}`)
    expect('json' in command.options).toBe(!WITHOUT_JSON.includes(name))
  })

  test('is in the overview, and those that begin alike in a list of their own', async () => {
    const { stdout } = await run('help')
    for (const { name, summary } of COMMANDS) expect(stdout).toMatch(new RegExp(`^ {2}${name} +${summary}$`, 'm'))
    expect(stdout).toContain('Exit codes: 0')
    for (const group of ['tenant', 'key', 'audit']) {
      const { exitCode, stdout: list } = await run('help', group)
      expect(exitCode).toBe(0)
      for (const { name } of COMMANDS.filter((command) => command.name.startsWith(`${group} `))) {
        expect(list).toMatch(new RegExp(`^ {2}${name}\\b`, 'm'))
      }
      expect(await run(group, '--help')).toMatchObject({ exitCode: 0, stdout: list })
    }
  })
})

test('what is not understood says what was probably meant, and exits with 2', async () => {
  for (const [arguments_, message] of [
    [['tenant'], 'tenant what?'],
    [['tenant', 'erazse', 'acme'], 'Did you mean: rowhouse tenant erase'],
    [['audti', 'seal'], 'Did you mean: rowhouse audit'],
    [['help', 'nothing'], 'There is no command "nothing".'],
    [['tenant', 'erase'], 'tenant erase needs <tenant>.'],
    [['tenant', 'erase', 'acme', '--jsn'], 'Did you mean --json?'],
    [['tenant', 'list'], 'No database was named.'],
  ] as const) {
    const { exitCode, stderr } = await run(...arguments_)
    expect(stderr).toContain(message)
    expect(exitCode).toBe(2)
  }
})

test('what destroys asks, and does nothing where nobody answers', () => {
  const destroying = COMMANDS.filter(({ options }) => 'yes' in options).map(({ name }) => name)
  expect(destroying).toEqual(['tenant erase', 'key revoke', 'audit purge'])
})
