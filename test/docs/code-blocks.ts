// Finds the code blocks of the documentation: fenced blocks of Markdown files, and of doc comments in TypeScript files.
import { glob, readFile } from 'node:fs/promises'

export interface CodeBlock {
  /** File relative to the project, and the line of the fence: names the block in a failure. */
  readonly file: string
  readonly line: number
  /** Language after the fence, for example `ts`. */
  readonly language: string
  /** Words after the language, for example `run`. */
  readonly flags: readonly string[]
  readonly code: string
}

const FENCE = /^\s*```(\w*)\s*(.*)$/

/** The fenced code blocks of a text; `prefix` is stripped from every line first (the ` * ` of a doc comment). */
export function findCodeBlocks(file: string, text: string, prefix?: RegExp): CodeBlock[] {
  const blocks: CodeBlock[] = []
  let open: { line: number; language: string; flags: string[]; code: string[]; indent: string } | undefined
  for (const [index, rawLine] of text.split('\n').entries()) {
    if (prefix !== undefined && !prefix.test(rawLine)) {
      open = undefined
      continue
    }
    const line = prefix === undefined ? rawLine : rawLine.replace(prefix, '')
    const fence = FENCE.exec(line)
    if (fence === null) {
      open?.code.push(line.startsWith(open.indent) ? line.slice(open.indent.length) : line)
    } else if (open === undefined) {
      const indent = /^\s*/.exec(line)?.[0] ?? ''
      open = { line: index + 1, language: fence[1] ?? '', flags: (fence[2] ?? '').split(/\s+/), code: [], indent }
    } else {
      const { line: openedAt, language, flags, code } = open
      blocks.push({ file, line: openedAt, language, flags: flags.filter(Boolean), code: code.join('\n') })
      open = undefined
    }
  }
  return blocks
}

/** All code blocks of the Markdown files that ship or guide, and of the doc comments of the library. */
export async function collectCodeBlocks(root: string): Promise<CodeBlock[]> {
  const blocks: CodeBlock[] = []
  for (const pattern of ['README.md', 'sql/README.md', 'examples/**/README.md']) {
    for await (const file of glob(pattern, { cwd: root, exclude: (name) => name.includes('node_modules') })) {
      blocks.push(...findCodeBlocks(file, await readFile(`${root}/${file}`, 'utf8')))
    }
  }
  for await (const file of glob('src/**/*.ts', { cwd: root })) {
    blocks.push(...findCodeBlocks(file, await readFile(`${root}/${file}`, 'utf8'), /^\s*\* ?/))
  }
  return blocks
}
