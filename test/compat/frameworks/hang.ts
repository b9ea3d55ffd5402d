import type { RunningJob } from 'rowhouse'

/** What a worker in a process of its own does: one step, then it hangs. */
export async function hang(_payload: null, job: RunningJob): Promise<void> {
  await job.step('before', () => job.tenant.state.increment('before'))
  process.send!('at work')
  await new Promise((resolve) => setTimeout(resolve, 60_000))
}
