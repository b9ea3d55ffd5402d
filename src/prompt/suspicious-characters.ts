/** Control characters other than tab and line breaks. */
export function isControl(code: number): boolean {
  if (code === 0x09 || code === 0x0a || code === 0x0d) return false
  return code < 0x20 || (code >= 0x7f && code <= 0x9f)
}

/** Characters that change the direction of the text after them: what is shown is not what is read. */
export function isBidirectionalControl(code: number): boolean {
  return (
    code === 0x061c ||
    code === 0x200e ||
    code === 0x200f ||
    (code >= 0x202a && code <= 0x202e) ||
    (code >= 0x2066 && code <= 0x2069)
  )
}

/**
 * Characters that show nothing: zero-width ones, and the tag and variation characters in which whole texts are hidden.
 * The joiner of emoji sequences and the two common variation selectors are no such characters.
 */
export function isInvisible(code: number): boolean {
  return (
    code === 0x00ad ||
    code === 0x034f ||
    code === 0x180e ||
    code === 0x200b ||
    code === 0x200c ||
    (code >= 0x2060 && code <= 0x2064) ||
    (code >= 0x206a && code <= 0x206f) ||
    code === 0xfeff ||
    (code >= 0xfe00 && code <= 0xfe0d) ||
    (code >= 0xfff9 && code <= 0xfffb) ||
    (code >= 0xe0000 && code <= 0xe01ef)
  )
}
