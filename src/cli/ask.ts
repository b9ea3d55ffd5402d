import { createInterface } from 'node:readline/promises'
import type { ReadStream } from 'node:tty'

/** A function that asks the person at the terminal; undefined where nobody sits at one. */
export function createAsk(
  input: ReadStream,
  output: NodeJS.WritableStream,
): ((question: string) => Promise<string>) | undefined {
  if (!input.isTTY) return undefined
  return async (question) => {
    const lines = createInterface({ input, output })
    try {
      return await lines.question(question)
    } finally {
      lines.close()
    }
  }
}
