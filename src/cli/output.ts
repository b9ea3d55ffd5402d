import type { WriteStream } from 'node:tty'

export type Style = 'green' | 'yellow' | 'red' | 'dim' | 'bold'

const CODES: Record<Style, [number, number]> = {
  green: [32, 39],
  yellow: [33, 39],
  red: [31, 39],
  dim: [2, 22],
  bold: [1, 22],
}

/** Where a command writes to. Colours only on a terminal, and never with NO_COLOR. */
export interface Output {
  /** A line of the result, on standard output. */
  line(text?: string): void
  /** A line about the work, on standard error. */
  note(text?: string): void
  style(style: Style, text: string): string
}

type Stream = Pick<WriteStream, 'write'> & { readonly isTTY?: boolean }

export function createOutput(
  stdout: Stream,
  stderr: Stream,
  environment: Readonly<Record<string, string | undefined>>,
): Output {
  const refused = (environment.NO_COLOR ?? '') !== '' || environment.TERM === 'dumb'
  const colours = stdout.isTTY === true && stderr.isTTY === true && !refused
  return {
    line: (text = '') => void stdout.write(`${text}\n`),
    note: (text = '') => void stderr.write(`${text}\n`),
    style: (style, text) => (colours ? `\u001b[${CODES[style][0]}m${text}\u001b[${CODES[style][1]}m` : text),
  }
}

/** A duration for people: `9 ms`, `1.2 s`. */
export function formatDuration(milliseconds: number): string {
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`
}
