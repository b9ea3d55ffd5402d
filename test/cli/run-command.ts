import { runCommandLine } from '../../src/cli/run.ts'
import type { CliResult } from './run-cli.ts'

export interface CommandResult extends CliResult {
  /** What a person at the terminal was asked. */
  readonly questions: string[]
}

/** Runs a command in this process; with an answer, as for a person at a terminal who gives it to every question. */
export async function runCommand(
  arguments_: string[],
  environment: Readonly<Record<string, string>>,
  answer?: string,
): Promise<CommandResult> {
  let stdout = ''
  let stderr = ''
  const questions: string[] = []
  const ask = async (question: string) => {
    questions.push(question)
    return answer!
  }
  const exitCode = await runCommandLine(arguments_, {
    output: {
      line: (text = '') => {
        stdout += `${text}\n`
      },
      note: (text = '') => {
        stderr += `${text}\n`
      },
      style: (_style, text) => text,
    },
    environment,
    ask: answer === undefined ? undefined : ask,
  })
  return { exitCode, stdout, stderr, questions }
}
