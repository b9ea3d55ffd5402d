#!/usr/bin/env node
import { createOutput } from './output.ts'
import { runCommandLine } from './run.ts'

const output = createOutput(process.stdout, process.stderr, process.env)
process.exitCode = await runCommandLine(process.argv.slice(2), output, process.env)
