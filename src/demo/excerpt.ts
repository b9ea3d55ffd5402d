import { extractWords } from './terms.ts'

/** The part of a passage that has most words in common with a question, about `length` characters long. */
export function excerpt(content: string, question: string, length: number): string {
  const wanted = new Set(extractWords(question))
  const words = content.split(' ')
  let best = { matches: -1, first: 0, last: 0 }
  for (let start = 0; start < words.length; start++) {
    const { text, end } = take(words, start, length)
    const matches = new Set(extractWords(text).filter((word) => wanted.has(word))).size
    if (matches > best.matches) best = { matches, first: start, last: start }
    else if (matches === best.matches && start === best.last + 1) best.last = start
    if (end === words.length) break
  }
  // Of neighbouring parts that are equally good, the middle one has the words in its middle.
  const start = best.first === 0 ? 0 : Math.ceil((best.first + best.last) / 2)
  const { text, end } = take(words, start, length)
  return `${start > 0 ? '... ' : ''}${text}${end < words.length ? ' ...' : ''}`
}

function take(words: readonly string[], start: number, length: number): { text: string; end: number } {
  let text = words[start] ?? ''
  let end = start + 1
  while (end < words.length && text.length + 1 + words[end]!.length <= length) {
    text += ` ${words[end]}`
    end += 1
  }
  return { text, end }
}
