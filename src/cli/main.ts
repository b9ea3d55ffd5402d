#!/usr/bin/env node
import { createAsk } from './ask.ts'
import { createOutput } from './output.ts'
import { runCommandLine } from './run.ts'

// A reader that has seen enough, such as `head`, is no failure; whether the command fails is still to be seen.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE' && error.code !== 'ERR_STREAM_DESTROYED') throw error
})

const output = createOutput(process.stdout, process.stderr, process.env)
process.exitCode = await runCommandLine(process.argv.slice(2), {
  output,
  environment: process.env,
  ask: createAsk(process.stdin, process.stderr),
})
