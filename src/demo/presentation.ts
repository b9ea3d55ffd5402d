import { inspect, isDeepStrictEqual } from 'node:util'
import type { Style } from '../cli/output.ts'
import { formatTable } from '../cli/table.ts'

export interface PresentationOptions {
  readonly output: (line: string) => void
  /** Applies a style, or returns the text unchanged where colours aren't wanted. */
  readonly style: (style: Style, text: string) => string
}

/** Prose is broken at this width, so that it reads well on a narrow terminal too. */
const WIDTH = 92
/** Cells of a table are cut at this width. */
const CELL_WIDTH = 72

/** Prints the demo, and keeps account of which claims held. */
export class Presentation {
  readonly #output: (line: string) => void
  readonly #style: (style: Style, text: string) => string
  #sections = 0
  #held = 0
  #failed = 0

  constructor(options: PresentationOptions) {
    this.#output = options.output
    this.#style = options.style
  }

  get held(): number {
    return this.#held
  }

  get failed(): number {
    return this.#failed
  }

  title(text: string): void {
    this.#output(this.#style('bold', text))
  }

  /** Starts a numbered section. */
  section(title: string): void {
    this.#sections += 1
    this.#output('')
    this.#output(this.#style('bold', `${this.#sections}. ${title}`))
  }

  /** A paragraph of explanation. */
  text(paragraph: string): void {
    for (const line of wrap(paragraph, WIDTH)) this.#output(`   ${line}`)
  }

  /** Something that a reader could type, as SQL or TypeScript. */
  code(line: string): void {
    const [first = '', ...rest] = wrap(line, WIDTH - 2)
    this.#output(`   ${this.#style('dim', `> ${first}`)}`)
    for (const continued of rest) this.#output(`   ${this.#style('dim', `    ${continued}`)}`)
  }

  /** A table; columns of numbers are aligned to the right. */
  table(headers: readonly string[], rows: readonly (readonly (string | number)[])[]): void {
    const cut = rows.map((row) => row.map((cell) => (typeof cell === 'string' ? cutCell(cell) : cell)))
    const [header = '', ...lines] = formatTable(headers, cut)
    this.#output(`   ${this.#style('dim', header)}`)
    for (const line of lines) this.#output(`   ${line}`)
  }

  /** Checks a claim of the demo: what is expected against what was seen. */
  claim(claim: string, actual: unknown, expected: unknown): void {
    if (isDeepStrictEqual(actual, expected)) {
      this.#held += 1
      this.#printMarked('ok', 'green', claim)
    } else {
      this.#failed += 1
      this.#printMarked('FAILED', 'red', claim)
      this.#output(`          expected: ${inspect(expected, { breakLength: Infinity, depth: 3 })}`)
      this.#output(`          got:      ${inspect(actual, { breakLength: Infinity, depth: 3 })}`)
    }
  }

  /** Checks that something is refused with an error whose code or SQLSTATE is the expected one. */
  async refused(claim: string, expectedCode: string, attempt: () => Promise<unknown>): Promise<void> {
    let code = 'not refused'
    let message = ''
    try {
      await attempt()
    } catch (error) {
      code = String((error as { code?: unknown }).code ?? error)
      message = error instanceof Error ? error.message : ''
    }
    this.claim(claim, code, expectedCode)
    if (code === expectedCode) this.#printIndented(`${message} (${code})`, 7, (line) => this.#style('dim', line))
  }

  /** A step that couldn't be finished. */
  failure(what: string, error: unknown): void {
    this.#failed += 1
    this.#printMarked('FAILED', 'red', what)
    const { message, hint } = error as { message?: unknown; hint?: unknown }
    this.#printIndented(typeof message === 'string' ? message : inspect(error), 10)
    if (typeof hint === 'string') this.#printIndented(hint, 10)
  }

  #printIndented(text: string, indent: number, style: (line: string) => string = (line) => line): void {
    for (const line of wrap(text, WIDTH + 3 - indent)) this.#output(`${' '.repeat(indent)}${style(line)}`)
  }

  #printMarked(mark: string, style: Style, text: string): void {
    const [first = '', ...rest] = wrap(text, WIDTH - mark.length - 2)
    this.#output(`   ${this.#style(style, mark)}  ${first}`)
    for (const line of rest) this.#output(`   ${' '.repeat(mark.length)}  ${line}`)
  }
}

function cutCell(cell: string): string {
  return cell.length > CELL_WIDTH ? `${cell.slice(0, CELL_WIDTH - 3).trimEnd()}...` : cell
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(/\s+/)) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line)
      line = word
    } else {
      line = line === '' ? word : `${line} ${word}`
    }
  }
  lines.push(line)
  return lines
}
