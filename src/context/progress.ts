/** How far a statement is that takes long, as the database tells while it runs. */
export interface WorkProgress {
  readonly work: 'erase' | 'seal' | 'verify'
  /** Of an erasure a table, else the tenant. */
  readonly object: string
  /** Of this object. */
  readonly done: number
  readonly total: number | null
}

export type WorkListener = (progress: WorkProgress) => void

export type NoticeListener = (notice: {
  readonly message?: string | undefined
  readonly detail?: string | undefined
}) => void

/** Listens to messages of the server. What the listener throws is ignored: the statement is on its way. */
export function noticeListener(onProgress: WorkListener): NoticeListener {
  return ({ message, detail }) => {
    if (message !== 'rowhouse progress' || detail === undefined) return
    try {
      onProgress(JSON.parse(detail) as WorkProgress)
    } catch {}
  }
}
