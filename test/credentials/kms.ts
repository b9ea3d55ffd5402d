import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { KmsClient } from '../../src/index.ts'

/** A key management service in a process of its own, and a client of it that has the shape of the AWS SDK's. */
export class Kms implements KmsClient {
  #process: ChildProcess | undefined
  #port = 0

  async start(): Promise<void> {
    this.#process = fork(join(import.meta.dirname, 'kms-process.ts'), [], { execArgv: [] })
    this.#port = (await once(this.#process, 'message'))[0] as number
  }

  /** It does not answer any more, and what it knew is gone. */
  async stop(): Promise<void> {
    const ended = once(this.#process!, 'exit')
    this.#process!.kill('SIGKILL')
    await ended
  }

  /** It does not answer until it is resumed. */
  pause(): void {
    this.#process!.kill('SIGSTOP')
  }

  resume(): void {
    this.#process!.kill('SIGCONT')
  }

  async createKey(): Promise<string> {
    return (await this.call('CreateKey', {})).KeyId as string
  }

  async encrypt(request: Parameters<KmsClient['encrypt']>[0]) {
    return bytes(await this.call('Encrypt', request), 'CiphertextBlob')
  }

  async decrypt(request: Parameters<KmsClient['decrypt']>[0]) {
    return bytes(await this.call('Decrypt', request), 'Plaintext')
  }

  async reEncrypt(request: Parameters<KmsClient['reEncrypt']>[0]) {
    return bytes(await this.call('ReEncrypt', request), 'CiphertextBlob')
  }

  async call(action: string, request: object): Promise<Record<string, unknown>> {
    const body = JSON.stringify(request, (_name, value) =>
      value instanceof Uint8Array || value?.type === 'Buffer'
        ? Buffer.from(value.data ?? value).toString('base64')
        : value,
    )
    const response = await fetch(`http://127.0.0.1:${this.#port}/${action}`, {
      method: 'POST',
      body,
      signal: AbortSignal.timeout(1000),
    })
    const answer = (await response.json()) as Record<string, unknown>
    if (!response.ok) throw Object.assign(new Error(`${action} failed`), { name: answer.__type })
    return answer
  }
}

function bytes<Name extends string>(answer: Record<string, unknown>, name: Name): Record<Name, Uint8Array> {
  return { ...answer, [name]: Buffer.from(answer[name] as string, 'base64') } as unknown as Record<Name, Uint8Array>
}
