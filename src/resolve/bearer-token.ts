/** The token of `Authorization: Bearer <token>`, or undefined. */
export function bearerToken(request: Request): string | undefined {
  return /^Bearer +(?<token>\S+) *$/i.exec(request.headers.get('authorization') ?? '')?.groups?.token
}
