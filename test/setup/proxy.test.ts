import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { useDatabase } from './database.ts'
import { startProxy } from './proxy.ts'

describe('plain TCP', () => {
  const echo = createServer((socket) => {
    accepted.push(socket)
    socket.on('data', (chunk) => socket.write(chunk))
    socket.on('error', () => {})
  })
  const accepted: Socket[] = []

  beforeAll(async () => {
    echo.listen(0, '127.0.0.1')
    await once(echo, 'listening')
  })

  afterAll(() => {
    for (const socket of accepted) socket.destroy()
    echo.close()
  })

  async function open() {
    const proxy = await startProxy({ host: '127.0.0.1', port: (echo.address() as AddressInfo).port })
    const client = connect(proxy.port, proxy.host)
    const errors: string[] = []
    client.on('error', (error: NodeJS.ErrnoException) => errors.push(error.code ?? error.message))
    await once(client, 'connect')
    onTestFinished(async () => {
      client.destroy()
      await proxy.close()
    })
    return { proxy, client, errors }
  }

  async function ask(client: Socket, text: string): Promise<string> {
    client.write(text)
    const [chunk] = await once(client, 'data')
    return String(chunk)
  }

  test('bytes arrive unchanged and are counted', async () => {
    const { proxy, client } = await open()
    expect(await ask(client, 'hello')).toBe('hello')
    expect(proxy.counters).toEqual({ flights: 1, bytesToServer: 5, bytesToClient: 5 })
  })

  test('a flight is a burst: what is sent before an answer is one', async () => {
    const { proxy, client } = await open()
    proxy.delay(50)
    client.write('one')
    await sleep(2)
    let heard = await ask(client, 'two')
    while (heard.length < 6) heard += String((await once(client, 'data'))[0])
    expect(heard).toBe('onetwo')
    expect(proxy.counters.flights).toBe(1)
    await ask(client, 'three')
    expect(proxy.counters.flights).toBe(2)
    proxy.resetCounters()
    await ask(client, 'four')
    expect(proxy.counters).toEqual({ flights: 1, bytesToServer: 4, bytesToClient: 4 })
  })

  test('a delay is added to each direction', async () => {
    const { proxy, client } = await open()
    await ask(client, 'warm up')
    for (const [delay, expected] of [
      [{ toServer: 30 }, 30],
      [{ toClient: 30 }, 30],
      [25, 50],
    ] as const) {
      proxy.delay(delay)
      const begun = performance.now()
      await ask(client, 'x')
      expect(performance.now() - begun).toBeGreaterThanOrEqual(expected - 1)
      expect(performance.now() - begun).toBeLessThan(expected + 500)
    }
  })

  test('cut resets both sides, and new connections work', async () => {
    const { proxy, client, errors } = await open()
    await ask(client, 'x')
    const server = accepted.at(-1)!
    const closed = [client, server].map((socket) => new Promise((resolve) => socket.once('close', resolve)))
    proxy.cut()
    await Promise.all(closed)
    expect(errors).toEqual(['ECONNRESET'])
    const again = connect(proxy.port, proxy.host)
    expect(await ask(again, 'y')).toBe('y')
    again.destroy()
  })

  test('half-open loses everything and tells nobody', async () => {
    const { proxy, client, errors } = await open()
    await ask(client, 'x')
    const server = accepted.at(-1)!
    proxy.halfOpen()
    const heard: string[] = []
    client.on('data', (chunk) => heard.push(String(chunk)))
    client.write('lost')
    const newcomer = connect(proxy.port, proxy.host)
    newcomer.on('data', (chunk) => heard.push(String(chunk)))
    await once(newcomer, 'connect')
    newcomer.write('lost too')
    await sleep(50)
    proxy.resume()
    client.write('still lost')
    await sleep(50)
    expect(heard).toEqual([])
    expect(errors).toEqual([])
    expect([client.destroyed, newcomer.destroyed, server.destroyed]).toEqual([false, false, false])
    const again = connect(proxy.port, proxy.host)
    expect(await ask(again, 'y')).toBe('y')
    for (const socket of [again, newcomer]) socket.destroy()
  })

  test('pause holds everything back, resume delivers it', async () => {
    const { proxy, client } = await open()
    await ask(client, 'x')
    proxy.pause()
    const answer = ask(client, 'held')
    expect(await Promise.race([answer, sleep(50, 'nothing')])).toBe('nothing')
    proxy.resume()
    expect(await answer).toBe('held')
  })

  test('an ordinary end reaches the other side', async () => {
    const { proxy, client } = await open()
    await ask(client, 'x')
    const ended = once(accepted.at(-1)!, 'end')
    client.end()
    await ended
    await once(client, 'close')
    await expect.poll(() => proxy.connections).toBe(0)
  })
})

describe('a Postgres client', () => {
  const database = useDatabase()

  async function open(options?: { record: boolean }) {
    const proxy = await startProxy(database.url('app'), options)
    const client = new pg.Client({ connectionString: proxy.url })
    const errors: Error[] = []
    client.on('error', (error) => errors.push(error))
    await client.connect()
    onTestFinished(() => proxy.close())
    return { proxy, client, errors }
  }

  test('one flight per awaited query, start-up left out by resetCounters', async () => {
    const { proxy, client } = await open()
    proxy.delay(2)
    expect(proxy.counters.flights).toBeGreaterThan(0)
    proxy.resetCounters()
    await client.query('select 1')
    expect(proxy.counters.flights).toBe(1)
    await client.query('begin')
    await client.query({ text: 'select $1::int', values: [1] })
    await client.query('commit')
    expect(proxy.counters.flights).toBe(4)
    await client.end()
  })

  test('queries sent without waiting are one flight', async () => {
    const proxy = await startProxy(database.url('app'))
    onTestFinished(() => proxy.close())
    const client = new pg.Client({ connectionString: proxy.url, pipeline: true } as pg.ClientConfig)
    await client.connect()
    proxy.delay(50)
    proxy.resetCounters()
    await Promise.all([client.query('begin'), client.query('select 1'), client.query('commit')])
    expect(proxy.counters.flights).toBe(1)
    await client.end()
  })

  test('a recording proxy has what the server sent', async () => {
    const { proxy, client } = await open({ record: true })
    proxy.resetCounters()
    await client.query("select 'a-canary-' || 42")
    expect(proxy.received.toString('latin1')).toContain('a-canary-42')
    await client.end()
  })

  test('cut breaks the query under way', async () => {
    const { proxy, client } = await open()
    proxy.delay({ toClient: 500 })
    const query = client.query('select 1')
    await sleep(50)
    proxy.cut()
    await expect(query).rejects.toThrow()
  })

  test('half-open leaves the query without an answer', async () => {
    const { proxy, client } = await open()
    proxy.halfOpen()
    const query = client.query('select 1').then(
      () => 'answer',
      () => 'error',
    )
    expect(await Promise.race([query, sleep(100, 'nothing')])).toBe('nothing')
    await proxy.close()
    expect(await query).toBe('error')
  })
})
