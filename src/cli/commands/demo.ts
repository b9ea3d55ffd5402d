import type { Command } from '../command.ts'
import { DATABASE_URL_OPTION, findDatabaseUrl } from '../database-url.ts'

export const demoCommand: Command = {
  name: 'demo',
  summary: 'Show tenant isolation on real documents, in an embedded Postgres',
  description:
    'Starts an embedded Postgres (or uses the database that is named), installs rowhouse, plays the whole story on real\n' +
    'text documents and shows attacks failing. Succeeds only if every step held.',
  options: { 'database-url': DATABASE_URL_OPTION },
  examples: ['rowhouse demo', 'rowhouse demo --database-url postgres://owner@localhost/scratch'],
  async run(context) {
    const databaseUrl = findDatabaseUrl(context)
    // Loaded only here: it needs packages that a server installation doesn't have.
    const { runDemo } = await import('../../demo/demo.ts')
    return runDemo(databaseUrl === undefined ? {} : { databaseUrl })
  },
}
