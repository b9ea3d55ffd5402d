import { Readable, type Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { ReadableStream } from 'node:stream/web'
import { createGzip } from 'node:zlib'
import { createTarPacker, type TarPackController } from 'modern-tar'

/** More takes twice the time for a tenth of the bytes. */
const COMPRESSION_LEVEL = 3

/** Writes entries of a gzipped tar one after another, as fast as the stream takes them. */
export class ArchiveWriter {
  readonly #tar: TarPackController
  readonly #written: Promise<void>
  #bytes = 0

  constructor(to: Writable, compressionLevel = COMPRESSION_LEVEL) {
    const { readable, controller } = createTarPacker()
    this.#tar = controller
    const gzip = createGzip({ level: compressionLevel })
    gzip.on('data', (chunk: Uint8Array) => {
      this.#bytes += chunk.length
    })
    this.#written = pipeline(Readable.fromWeb(readable as ReadableStream), gzip, to)
    // Reported by the write that it stops, or by finish.
    this.#written.catch(() => {})
  }

  /** Compressed bytes so far. */
  get bytes(): number {
    return this.#bytes
  }

  async add(name: string, data: Uint8Array): Promise<void> {
    try {
      const entry = this.#tar
        .add({ name, size: data.length, type: 'file', mode: 0o600, mtime: new Date(0) })
        .getWriter()
      if (data.length > 0) await entry.write(data)
      await entry.close()
    } catch (error) {
      // The stream knows better why it stopped.
      await this.#written
      throw error
    }
  }

  /** Resolves when everything has been written and the stream has ended. */
  async finish(): Promise<void> {
    this.#tar.finalize()
    await this.#written
  }

  /** Ends the stream with the error, so that nobody takes what there is for an archive. */
  async abort(error: unknown): Promise<void> {
    this.#tar.error(error)
    await this.#written.catch(() => {})
  }
}
