import type { Writable } from 'node:stream'

/** How far an export or import is. */
export interface PortabilityProgress {
  /** The table that is worked on, with its schema. */
  readonly table: string
  /** Rows so far. */
  readonly rows: number
  /** Rows of all tables. */
  readonly totalRows: number
}

/** A file of the application that belongs to the tenant and travels with it. */
export interface ExportedFile {
  /** Any name; an import hands it back as it is. */
  readonly name: string
  readonly content: string | Uint8Array | AsyncIterable<Uint8Array>
}

/** A file that an archive holds. */
export interface ImportedFile {
  /** As it was given to the export. Check it before it becomes a path. */
  readonly name: string
  readonly content: AsyncIterable<Uint8Array>
}

export interface ExportOptions {
  /** Where the archive is written to; ended with it. An error destroys it. */
  readonly to: Writable
  /** Files of the application that go into the archive. */
  readonly files?: Iterable<ExportedFile> | AsyncIterable<ExportedFile> | undefined
  readonly onProgress?: ((progress: PortabilityProgress) => void) | undefined
}

export interface ImportOptions {
  /** The id that the tenant gets. Default: the one that it had. */
  readonly as?: string | undefined
  /** Refuses an archive whose content is another one: `contentHash` of its export. */
  readonly contentHash?: string | undefined
  /** Takes a file. Called before the import is committed, so a file may come again after a failure. */
  readonly onFile?: ((file: ImportedFile) => Promise<void> | void) | undefined
  readonly onProgress?: ((progress: PortabilityProgress) => void) | undefined
}

/** What an export wrote. */
export interface ExportReceipt {
  readonly tenantId: string
  /** The moment that the archive shows, ISO 8601, by the clock of the database. */
  readonly exportedAt: string
  /** SHA-256 of what the tenant owns, whatever its id. */
  readonly contentHash: string
  /** Rows of each table that has some. */
  readonly tables: Readonly<Record<string, number>>
  /** Rows of all tables. */
  readonly rows: number
  readonly files: number
  /** Size of the archive. */
  readonly bytes: number
}

/** What an import wrote. */
export interface ImportReceipt {
  readonly tenantId: string
  /** The id that the tenant had. */
  readonly from: string
  /** As the export said, and as the database has it now. */
  readonly contentHash: string
  /** Rows of each table that got some. */
  readonly tables: Readonly<Record<string, number>>
  /** Rows of all tables. */
  readonly rows: number
  /** Tables whose rows were left out, because they are of no use under another id. */
  readonly leftOut: Readonly<Record<string, number>>
  /** Files that were handed to `onFile`; without it, 0. */
  readonly files: number
}
