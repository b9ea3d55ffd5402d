// Lets a program import 'rowhouse' as its users do and get the sources of this checkout, not a build:
// node --import ./test/setup/resolve-source.ts program.ts
import { registerHooks } from 'node:module'

const SOURCES: Record<string, string> = {
  rowhouse: '../../src/index.ts',
  'rowhouse/http': '../../src/http/index.ts',
  'rowhouse/express': '../../src/express/index.ts',
  'rowhouse/fastify': '../../src/fastify/index.ts',
  'rowhouse/graphile-worker': '../../src/graphile-worker/index.ts',
  'rowhouse/hono': '../../src/hono/index.ts',
  'rowhouse/next': '../../src/next/index.ts',
  'rowhouse/pg-boss': '../../src/pg-boss/index.ts',
  'rowhouse/ws': '../../src/ws/index.ts',
  'rowhouse/embedded': '../../src/embedded/index.ts',
  'rowhouse/testing': '../../src/testing/index.ts',
}

registerHooks({
  resolve(specifier, context, nextResolve) {
    const source = SOURCES[specifier]
    return nextResolve(source === undefined ? specifier : new URL(source, import.meta.url).href, context)
  },
})
