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
    workerData: { host: hostname, port: Number(port), roundTripMs },
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

if (!isMainThread) {
  const { host, port, roundTripMs } = workerData as { host: string; port: number; roundTripMs: number }
  let flights = 0
  const server = net.createServer({ noDelay: true }, (client) => {
    const upstream = net.connect({ host, port, noDelay: true })
    let waiting = false
    client.on('data', (chunk) => {
      if (!waiting) flights++
      waiting = true
      upstream.write(chunk)
    })
    // The whole delay is on the way back: timers don't measure less than a millisecond.
    upstream.on('data', (chunk) => {
      const forward = () => {
        waiting = false
        client.write(chunk)
      }
      if (roundTripMs > 0) setTimeout(forward, roundTripMs)
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
