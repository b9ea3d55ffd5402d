/**
 * How many tokens a text is for a model. Any function will do; `countTokens` of the package `gpt-tokenizer` is one.
 *
 * @example
 * ```ts
 * const countTokens: TokenCounter = (text) => Math.ceil(text.length / 4)
 * const context = tenant.prompt.ragContext([], { maxTokens: 1000, countTokens })
 * ```
 */
export type TokenCounter = (text: string) => number

/** Letters of scripts without spaces between words; other words; up to three digits; line breaks; spaces; the rest. */
const PIECES =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]|[\p{L}\p{M}]+|\d{1,3}|\s*[\n\r]+|[^\S\n\r]+|[^\s\d]/gu

/**
 * An estimate without a vocabulary, meant to be too high rather than too low: 1.3 to 1.5 times what the tokenizers of
 * current models find in prose and code.
 */
export function estimateTokens(text: string): number {
  let tokens = 0
  for (const [piece] of text.matchAll(PIECES)) {
    if (/^[A-Za-z]+$/.test(piece)) tokens += Math.ceil(piece.length / 5)
    else if (/^\p{L}/u.test(piece)) tokens += Math.ceil(piece.length / 3)
    // A single space belongs to the word behind it.
    else if (/^[^\S\n\r]/.test(piece)) tokens += piece.length === 1 ? 0 : Math.ceil(piece.length / 8)
    // Characters outside of the Basic Multilingual Plane, such as emoji, take up to three.
    else tokens += piece.codePointAt(0)! > 0xffff ? 3 : 1
  }
  return tokens
}
