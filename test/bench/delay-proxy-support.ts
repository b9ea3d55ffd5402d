import net from 'node:net'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'

/** A TCP proxy that adds a delay and counts how often a client had to wait for the server. */
export interface DelayProxy {
  /** The connection string with the address of the proxy. */
  through(url: string): string
  /** Flights since the last call: messages of a client that the server answers before the client sends the next. */
  countFlights(): Promise<number>
  stop(): Promise<void>
}

/** Runs in a thread of its own, so that it takes no time from the client that is measured. */
export async function startDelayProxy(target: string, roundTripMs: number): Promise<DelayProxy> {
  const { hostname, port } = new URL(target)
  const worker = new Worker(new URL(import.meta.url), {
    workerData: { role: 'proxy', host: hostname, port: Number(port), roundTripMs } satisfies WorkerOptions,
  })
  const next = <T>() => new Promise<T>((resolve) => worker.once('message', resolve))
  const proxyPort = await next<number>()
  return {
    through(url) {
      const proxied = new URL(url)
      proxied.hostname = '127.0.0.1'
      proxied.port = String(proxyPort)
      return proxied.href
    },
    countFlights() {
      const count = next<number>()
      worker.postMessage('count')
      return count
    },
    async stop() {
      await worker.terminate()
    },
  }
}

interface WorkerOptions {
  readonly role: 'proxy' | 'sleeper'
  readonly host: string
  readonly port: number
  readonly roundTripMs: number
}

if (!isMainThread) {
  const options = workerData as WorkerOptions
  if (options.role === 'proxy') runProxy(options)
  else runSleeper()
}

function runProxy(options: WorkerOptions): void {
  const { host, port, roundTripMs } = options
  let flights = 0
  const delay = createDelay(options)
  const server = net.createServer({ noDelay: true }, (client) => {
    const upstream = net.connect({ host, port, noDelay: true })
    let waiting = false
    client.on('data', (chunk) => {
      if (!waiting) flights++
      waiting = true
      upstream.write(chunk)
    })
    upstream.on('data', (chunk) => {
      const forward = () => {
        waiting = false
        client.write(chunk)
      }
      if (roundTripMs > 0) delay(forward)
      else forward()
    })
    client.on('close', () => upstream.destroy()).on('error', () => upstream.destroy())
    upstream.on('close', () => client.destroy()).on('error', () => client.destroy())
  })
  server.listen(0, '127.0.0.1', () => parentPort!.postMessage((server.address() as net.AddressInfo).port))
  parentPort!.on('message', () => {
    parentPort!.postMessage(flights)
    flights = 0
  })
}

/**
 * Runs functions after the round trip, which is wholly on the way back. Timers count whole milliseconds, and start to
 * count again with every event, so another thread sleeps until the moment has come.
 */
function createDelay(options: WorkerOptions): (run: () => void) => void {
  const sleeper = new Worker(new URL(import.meta.url), { workerData: { ...options, role: 'sleeper' } })
  const waiting: (() => void)[] = []
  sleeper.on('message', () => waiting.shift()!())
  return (run) => {
    waiting.push(run)
    sleeper.postMessage(now() + options.roundTripMs)
  }
}

function runSleeper(): void {
  const cell = new Int32Array(new SharedArrayBuffer(4))
  parentPort!.on('message', (until: number) => {
    Atomics.wait(cell, 0, 0, Math.max(0, until - now()))
    parentPort!.postMessage(undefined)
  })
}

/** Milliseconds by a clock that all threads share. */
function now(): number {
  return Number(process.hrtime.bigint()) / 1e6
}
