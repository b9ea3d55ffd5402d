import { CompactSign, compactVerify } from 'jose'
import { createRowhouseError, RowhouseError } from '../errors.ts'
import { keyIdOf, parsePrivateKey, type SigningKey, trustedKeys } from '../signing/ed25519-keys.ts'
import type { ErasureReceipt } from '../tenants/erasure-receipt.ts'

/** So that nothing else that is signed with the same key passes for a certificate. */
const TYPE = 'rowhouse-erasure'

/** Signs a receipt: a JWS in compact form, which every library for JWS can check. */
export async function signErasureCertificate(receipt: ErasureReceipt, signingKey: SigningKey): Promise<string> {
  const key = parsePrivateKey(signingKey)
  return new CompactSign(Buffer.from(JSON.stringify(receipt)))
    .setProtectedHeader({ alg: 'EdDSA', typ: TYPE, kid: keyIdOf(key) })
    .sign(key)
}

/**
 * Checks the certificate of an erasure, without a database, and returns its receipt. What it proves is that the holder
 * of the key vouched for this receipt; `rowhouse.erasures.verify` compares it with the chain of receipts.
 *
 * Errors: `invalid_certificate` (cut off, changed, or not signed by one of the keys); `invalid_argument` (a key is none).
 *
 * @example
 * ```ts
 * const receipt = await verifyErasureCertificate(certificate, { publicKeys: [publicKey] })
 * logger.info({ tenantId: receipt.tenantId, rows: receipt.rows, erasedAt: receipt.erasedAt }, 'erased')
 * ```
 */
export async function verifyErasureCertificate(
  certificate: string,
  { publicKeys }: { readonly publicKeys: readonly SigningKey[] },
): Promise<ErasureReceipt> {
  const keys = trustedKeys(publicKeys)
  try {
    const { payload } = await compactVerify(
      certificate.trim(),
      ({ kid, typ }) => {
        const key = keys.get(kid ?? '')
        if (typ !== TYPE) throw invalidCertificate('it is no certificate of an erasure')
        if (key === undefined) throw invalidCertificate('none of the given keys signed it')
        return key
      },
      { algorithms: ['EdDSA'] },
    )
    return JSON.parse(Buffer.from(payload).toString('utf8'))
  } catch (error) {
    if (error instanceof RowhouseError) throw error
    throw invalidCertificate('it was cut off or changed', error)
  }
}

function invalidCertificate(problem: string, cause?: unknown): RowhouseError {
  return createRowhouseError('invalid_certificate', `The certificate does not hold: ${problem}.`, { cause })
}
