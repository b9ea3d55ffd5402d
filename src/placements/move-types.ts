import type { ErasureReceipt } from '../tenants/erasure-receipt.ts'

/**
 * What a move does, one after another: closes the tenant, copies it, says at the source that it moved, opens the copy,
 * erases the source.
 */
export type MoveStep = 'close' | 'copy' | 'switch' | 'open' | 'erase'

export interface MoveOptions {
  /**
   * How long the tenant may be closed, in milliseconds. A copy that isn't ready by then is given up, and the tenant works
   * where it was; looked at while rows are copied and when they have been checked. Default 10 minutes.
   */
  readonly maxPauseMs?: number | undefined
  /** Told before each step. */
  readonly onStep?: ((step: MoveStep) => void) | undefined
  readonly onProgress?:
    | ((progress: { readonly table: string; readonly rows: number; readonly totalRows: number }) => void)
    | undefined
}

/** What a move did. */
export interface MoveReceipt {
  readonly tenantId: string
  readonly from: string
  readonly to: string
  /** Of both ends. */
  readonly contentHash: string
  /** Milliseconds for which the tenant was closed; of this call, when it resumed another. */
  readonly pausedMs: number
  /** The receipt of the erasure at the source. */
  readonly erasure: ErasureReceipt & { readonly movedTo: string; readonly contentHash: string }
}
