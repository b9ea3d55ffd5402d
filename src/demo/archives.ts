/** What the three tenants of the demo hold: each an archive with the addresses of its own presidents. */
export interface Archive {
  readonly name: string
  /** Names as the dataset writes them. */
  readonly presidents: readonly string[]
  /** A question that only this archive can answer well, and a pattern that a good passage contains. */
  readonly question: string
  readonly answer: RegExp
  /** Rows for the application's own table. */
  readonly annotations: readonly { readonly author: string; readonly note: string }[]
}

/** The archives by tenant id. */
export const ARCHIVES: Readonly<Record<'lincoln' | 'roosevelt' | 'kennedy', Archive>> = {
  lincoln: {
    name: 'Lincoln Archive',
    presidents: ['Abraham Lincoln'],
    question: 'emancipation of the slaves',
    answer: /emancipat|slave/i,
    annotations: [
      { author: 'M. Whitfield', note: 'Compare with the draft of 30 November 1862.' },
      { author: 'M. Whitfield', note: 'Donor wishes to stay unnamed.' },
      { author: 'J. Okafor', note: 'Scan of page 4 is illegible; ask for a new one.' },
    ],
  },
  roosevelt: {
    name: 'Roosevelt Archive',
    presidents: ['Franklin D Roosevelt'],
    question: 'unemployment insurance and old age pensions',
    answer: /unemploy|old[- ]age|pension|social security/i,
    annotations: [
      { author: 'L. Haas', note: 'Marginal notes are by Hopkins, not by the President.' },
      { author: 'L. Haas', note: 'Insured for 40,000 dollars.' },
      { author: 'P. Sandoval', note: 'Broadcast version differs in the second paragraph.' },
    ],
  },
  kennedy: {
    name: 'Kennedy and Johnson Archive',
    presidents: ['John F Kennedy', 'Lyndon B Johnson'],
    question: 'the war against poverty',
    answer: /poverty|poor/i,
    annotations: [
      { author: 'T. Brandt', note: 'Teleprompter copy, with cuts.' },
      { author: 'T. Brandt', note: 'Loan to the exhibition ends in May.' },
      { author: 'R. Ito', note: 'Seal broken on arrival; reported.' },
    ],
  },
}

/** A question that is put to all three archives. */
export const COMMON_QUESTION = 'peace with foreign nations'

/** The embedder learns the weights of words from addresses that no tenant holds. */
export const PUBLIC_PRESIDENTS = [
  'James Buchanan',
  'Andrew Johnson',
  'Herbert Hoover',
  'Harry S Truman',
  'Dwight D Eisenhower',
  'Richard Nixon',
]
