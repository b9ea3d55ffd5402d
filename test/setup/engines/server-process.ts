import { fork } from 'node:child_process'

/** A server in a process of its own. */
export interface ServerProcess<Ready> {
  /** What the server said when it was ready. */
  readonly ready: Ready
  /** Asks the process something and waits for the answer. */
  ask<Answer>(question: string, ...values: string[]): Promise<Answer>
  /** Returns when the server is down and its files are gone. */
  stop(): Promise<void>
}

const OPTIONS = 'ROWHOUSE_TEST_SERVER_OPTIONS'

type Message<Ready> = { ready: Ready } | { failed: string } | { answer: unknown }

/**
 * Starts a script that runs a server. The script cleans up when its channel to us closes, so it also does when this
 * process is killed; `detached` keeps Ctrl+C away from it.
 */
export async function startServerProcess<Ready>(script: string, options: object): Promise<ServerProcess<Ready>> {
  const child = fork(script, {
    detached: true,
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    // Not as an argument, which other users of the machine can read: it may hold a password.
    env: { ...process.env, [OPTIONS]: JSON.stringify(options) },
  })
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()))

  const nextMessage = () =>
    new Promise<Message<Ready>>((resolve) => {
      const onMessage = (message: Message<Ready>) => {
        child.off('exit', onExit)
        resolve(message)
      }
      const onExit = (code: number | null) => {
        child.off('message', onMessage)
        resolve({ failed: `${script} ended with exit code ${code}` })
      }
      child.once('message', onMessage)
      child.once('exit', onExit)
    })

  const first = await nextMessage()
  if (!('ready' in first)) {
    if (child.connected) child.disconnect()
    throw new Error('failed' in first ? first.failed : `${script} did not say that it is ready`)
  }
  // The server alone must not keep this process alive.
  child.unref()
  child.channel?.unref()

  return {
    ready: first.ready,
    async ask<Answer>(question: string, ...values: string[]) {
      child.channel?.ref()
      child.send([question, ...values])
      const message = await nextMessage()
      child.channel?.unref()
      if ('answer' in message) return message.answer as Answer
      throw new Error('failed' in message ? message.failed : `${script} gave no answer`)
    },
    async stop() {
      child.ref()
      if (child.connected) child.disconnect()
      await exited
    },
  }
}

/** For the script: what it was started with. */
export function serverOptions<T>(): T {
  return JSON.parse(process.env[OPTIONS] ?? '{}') as T
}

/**
 * For the script: starts, reports, answers questions, and calls `stop` exactly once when the parent is gone. `stop` may
 * be called before `start` is through.
 */
export async function serve(server: {
  start(): Promise<object>
  stop(): Promise<void>
  answer?(question: string, ...values: string[]): Promise<unknown>
}): Promise<void> {
  const send = (message: object) => {
    if (process.connected) process.send?.(message)
  }
  process.once('disconnect', () => {
    server.stop().then(
      () => process.exit(0),
      () => process.exit(1),
    )
  })
  process.on('message', (question: [string, ...string[]]) => {
    const answer = server.answer?.(...question) ?? Promise.reject(new Error(`unknown question ${question[0]}`))
    answer.then(
      (value) => send({ answer: value ?? null }),
      (error: unknown) => send({ failed: String(error) }),
    )
  })
  try {
    send({ ready: await server.start() })
  } catch (error) {
    send({ failed: error instanceof Error ? error.message : String(error) })
  }
}
