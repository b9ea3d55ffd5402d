/** Outside of strings: what a JSON text has without the spaces and with the exponents that jsonb writes differently. */
const TOKENS = /"[^"\\]*(?:\\.[^"\\]*)*"|[,:]|(-?)(\d+)(?:\.(\d+))?e([+-]\d+)/g

/** Bytes of the text that Postgres makes of a JSON text which it keeps as jsonb: `{"a":1e2}` becomes `{"a": 100}`. */
export function jsonbBytes(json: string): number {
  let bytes = Buffer.byteLength(json)
  for (const [token, minus = '', whole, fraction = '', exponent] of json.matchAll(TOKENS)) {
    if (whole !== undefined) bytes += minus.length + plainDigits(whole, fraction, Number(exponent)) - token.length
    else if (token === ',' || token === ':') bytes += 1
  }
  return bytes
}

/** Characters of a number without its exponent, as numeric writes it. */
function plainDigits(whole: string, fraction: string, exponent: number): number {
  const before = Math.max(1, whole.length + exponent)
  const after = Math.max(0, fraction.length - exponent)
  return before + (after === 0 ? 0 : after + 1)
}
