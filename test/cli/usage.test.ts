import { describe, expect, test } from 'vitest'
import { nearest } from '../../src/cli/nearest.ts'
import { createOutput } from '../../src/cli/output.ts'
import { packageVersion } from '../../src/migrate/package-version.ts'
import { runCli } from './run-cli.ts'

describe('help', () => {
  test.each([[['--help']], [['-h']], [['help']]])('rowhouse %s lists the commands', async (arguments_) => {
    const { exitCode, stdout, stderr } = await runCli(arguments_)
    expect(exitCode).toBe(0)
    for (const name of ['migrate', 'protect', 'tenant list', 'tenant erase', 'demo']) {
      expect(stdout).toMatch(new RegExp(`^ {2}${name} {2,}\\S`, 'm'))
    }
    expect(stderr).toBe('')
  })

  test.each([[['help', 'migrate']], [['migrate', '--help']], [['migrate', '--dry-run', '-h']]])(
    'rowhouse %s explains every option',
    async (arguments_) => {
      const { exitCode, stdout } = await runCli(arguments_)
      expect(exitCode).toBe(0)
      for (const option of ['--database-url <URL>', '--dry-run', '--status', '--json', '--verbose', '--help']) {
        expect(stdout).toContain(option)
      }
    },
  )

  test('rowhouse --version', async () => {
    expect(await runCli(['--version'])).toEqual({ exitCode: 0, stdout: `${packageVersion()}\n`, stderr: '' })
  })

  test('rowhouse alone shows the help as an error', async () => {
    const { exitCode, stdout, stderr } = await runCli([])
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' })
    expect(stderr).toContain('Usage: rowhouse <command>')
  })
})

test.each<[string[], string, string]>([
  [['migrat'], 'There is no command "migrat".', 'Did you mean: rowhouse migrate'],
  [['mgirate'], 'There is no command "mgirate".', 'Did you mean: rowhouse migrate'],
  [
    ['nonsense'],
    'There is no command "nonsense".',
    'Commands: migrate, protect, tenant, key, audit, doctor, prove, usage, sweep, demo, help.',
  ],
  [['help', 'dmeo'], 'There is no command "dmeo".', 'Did you mean: rowhouse demo'],
  [['migrate', '--dryrun'], 'There is no option --dryrun.', 'Did you mean --dry-run?'],
  [['migrate', '--database_url', 'x'], 'There is no option --database_url.', 'Did you mean --database-url?'],
  [['migrate', '-q'], 'There is no option -q.', 'See: rowhouse help migrate'],
  [['--verson'], 'There is no option --verson.', 'Did you mean --version?'],
  [['migrate', '--database-url'], '--database-url needs a value <URL>.', 'rowhouse help migrate'],
  [['migrate', '--database-url', '--json'], '--database-url needs a value <URL>.', 'rowhouse help migrate'],
  [['migrate', '--database-url='], '--database-url needs a value <URL>.', 'rowhouse help migrate'],
  [['migrate', '--json=yes'], '--json takes no value.', 'rowhouse help migrate'],
  [['tenant'], 'tenant what?', 'Commands: tenant list, tenant create'],
  [['tenant', '--json'], 'tenant what?', 'Commands: tenant list'],
  [['tenant', 'lst'], 'There is no command "tenant lst".', 'Did you mean: rowhouse tenant list'],
  [['help', 'tenant', 'erse'], 'There is no command "tenant erse".', 'Did you mean: rowhouse tenant erase'],
  [['tennant', 'list'], 'There is no command "tennant".', 'Did you mean: rowhouse tenant'],
  [['tenant', 'erase'], 'tenant erase needs <tenant>.', 'rowhouse help tenant erase'],
  [['tenant', 'tier', 'acme'], 'tenant tier needs <tier>.', 'rowhouse help tenant tier'],
  [['tenant', 'erase', 'acme', 'globex'], 'tenant erase takes no argument "globex".', 'rowhouse help tenant erase'],
  [['protect', 'one', 'two'], 'protect takes no argument "two".', 'rowhouse help protect'],
  [['migrate', 'now'], 'migrate takes no argument "now".', 'rowhouse help migrate'],
  [['migrate'], 'No database was named.', 'Set DATABASE_URL'],
  [['migrate', '--status', '--dry-run'], '--status and --dry-run exclude each other.', 'Give one'],
])('%j: exit code 2, what is wrong, and the mend', async (arguments_, problem, mend) => {
  const { exitCode, stdout, stderr } = await runCli(arguments_)
  expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' })
  expect(stderr.split('\n')[0]).toBe(`error: ${problem}`)
  expect(stderr.split('\n')[1]).toContain(mend)
  expect(stderr).not.toContain('    at ')
})

test.each([
  ['migarte', 'migrate'],
  ['status', 'status'],
  ['stat', 'status'],
  ['x', undefined],
  ['database', undefined],
])('%s is nearest to %s', (word, expected) => {
  expect(nearest(word, ['migrate', 'status', 'demo'])).toBe(expected)
})

test('colours are for terminals without NO_COLOR', () => {
  const written: string[] = []
  const stream = (isTTY: boolean) => ({ isTTY, write: (text: string) => written.push(text) > 0 })
  const styled = (tty: boolean, environment: Record<string, string>) =>
    createOutput(stream(tty) as never, stream(tty) as never, environment).style('green', 'ok')
  expect(styled(true, {})).toBe('\u001b[32mok\u001b[39m')
  expect(styled(true, { NO_COLOR: '1' })).toBe('ok')
  expect(styled(true, { TERM: 'dumb' })).toBe('ok')
  expect(styled(false, {})).toBe('ok')
})
