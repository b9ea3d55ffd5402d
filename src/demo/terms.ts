/**
 * The terms by which the local embedder compares texts: words without their endings, and pairs of neighbouring words.
 */

/** Words that say nothing about a subject. */
const STOP_WORDS = new Set(
  `a about after all also am an and any are as at be because been before being between both but by can could did do does
  doing down during each few for from further had has have having he her here hers him his how i if in into is it its
  just let may me more most must my no nor not now of off on once only or other our ours out over own same shall she
  should so some such than that the their theirs them then there these they this those through to too under until up
  upon us very was we were what when where which while who whom why will with would you your yours`.split(/\s+/),
)

/** Endings that are cut off, with the length that a word needs to lose them. */
const ENDINGS: readonly (readonly [ending: string, minimumLength: number])[] = [
  ['ing', 6],
  ['ed', 5],
  ['ation', 8],
  ['ment', 8],
  ['ly', 6],
]

/** The significant words of a text, in order, in lower case and without their endings. */
export function extractWords(text: string): string[] {
  const words = text.toLowerCase().match(/[a-z0-9]+(?:'[a-z]+)?/g) ?? []
  return words
    .map((word) => word.replace(/'s$|'/, ''))
    .filter((word) => !STOP_WORDS.has(word))
    .map(cutEnding)
}

/** How often each word and each pair of neighbouring words occurs in a text. */
export function countTerms(text: string): Map<string, number> {
  const counts = new Map<string, number>()
  const add = (term: string) => counts.set(term, (counts.get(term) ?? 0) + 1)
  let previous: string | undefined
  for (const word of extractWords(text)) {
    add(word)
    if (previous !== undefined) add(`${previous} ${word}`)
    previous = word
  }
  return counts
}

/** Whether a term is a pair of words. */
export function isPair(term: string): boolean {
  return term.includes(' ')
}

/** Makes `settlers` and `settled`, or `taxes` and `taxation`, the same word; a rough cut is enough for comparing. */
function cutEnding(word: string): string {
  if (word.length < 4) return word
  let stem = cutPlural(word)
  const ending = ENDINGS.find(([ending, minimumLength]) => stem.length >= minimumLength && stem.endsWith(ending))
  if (ending !== undefined) stem = stem.slice(0, -ending[0].length)
  if (stem.length > 4 && stem.endsWith('e')) stem = stem.slice(0, -1)
  if (stem.length > 4 && /([^aeiouls])\1$/.test(stem)) stem = stem.slice(0, -1)
  return stem.length > 3 && stem.endsWith('y') ? `${stem.slice(0, -1)}i` : stem
}

function cutPlural(word: string): string {
  if (word.endsWith('ies') && word.length > 4) return `${word.slice(0, -3)}y`
  if (word.endsWith('sses')) return word.slice(0, -2)
  return /[^sui]s$/.test(word) ? word.slice(0, -1) : word
}
