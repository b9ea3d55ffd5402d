/**
 * Questions to the addresses of Lincoln, F. D. Roosevelt, Kennedy and L. B. Johnson, with a pattern that tells whether
 * a passage is about the matter. The embedder was tuned on other questions than these.
 */
export const RETRIEVAL_QUERIES: readonly (readonly [query: string, relevant: RegExp])[] = [
  ['the Four Freedoms everywhere in the world', /freedom/i],
  ['minimum wage for workers', /wage|hours of labor/i],
  ['the African slave trade', /slave/i],
  ['the post office and its revenues', /post-?office|postal|postmaster/i],
  ['electric power in rural homes', /electri|rural/i],
  ['airports and highways', /airport|highway|transport/i],
  ['the Peace Corps volunteers', /peace corps|volunteer/i],
  ['treaties with Japan and China', /japan|china|chinese/i],
  ['inflation and rising prices', /inflation|prices?\b/i],
  ['ratification of the constitutional amendment', /amendment|ratif/i],
  ['Cuba and Latin America', /cuba|latin america|hemisphere/i],
  ['soldiers killed in battle', /soldier|battle|army|troops|\bmen\b/i],
  ['the Supreme Court and the judges', /court|judge|judicia/i],
  ['trade and tariffs with Europe', /trade|tariff|common market|export/i],
  ['housing in the cities', /housing|homes|slum|cit(y|ies)\b/i],
  ['strikes of labor unions', /strike|union|labor/i],
]
