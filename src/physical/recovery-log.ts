import { open } from 'node:fs/promises'
import type { WalPosition } from '../domain/coverage.ts'
import { parseLsn } from '../domain/lsn.ts'
import { firstLsn, parseWalName } from '../domain/wal.ts'
import { LineReader, Tail } from '../postgres/lines.ts'

/*
 * What the log of a server tells of its recovery. With `lc_messages` C the words are those of the source, the same from
 * 13 to 18. Source: src/backend/access/transam/xlogrecovery.c (xlog.c before 15)
 */

/** Follows the log of one server as it grows. */
export class RecoveryLog {
  readonly #path: string
  readonly #segmentSize: number
  readonly #timeline: number
  #offset: number
  readonly #lines = new LineReader((line) => this.#take(line))
  readonly #severe = new Tail(4096)
  readonly #said = new Tail(2048)
  readonly #last = new Tail(2048)

  /** How far the replay has come, to a segment or a second. */
  replayed: WalPosition
  /** The redo has begun. */
  isReplaying = false
  /** It has come to its target, in the server's words; null: not yet. */
  stoppedAt: string | null = null
  /** The WAL had an end before the target. */
  endedBeforeTarget = false
  /** Where the last record begins that was replayed; null: the redo goes on. */
  lastRecord: bigint | null = null
  /** The path of the tablespace at whose creation the replay ended. */
  newTablespace: string | null = null
  /** It waits for nothing that can come: a limit of the server was raised meanwhile. */
  isStuck = false
  /** Why what was there before could not be written through to the disk, with which a server goes on; null: it could. */
  unwritten: string | null = null

  constructor(path: string, options: { offset: number; segmentSize: number; from: WalPosition }) {
    this.#path = path
    this.#offset = options.offset
    this.#segmentSize = options.segmentSize
    this.#timeline = options.from.timeline
    this.replayed = options.from
  }

  /** Reads what has been added. */
  async look(): Promise<void> {
    const file = await open(this.#path)
    try {
      const buffer = Buffer.alloc(64 * 1024)
      for (;;) {
        const { bytesRead } = await file.read(buffer, 0, buffer.length, this.#offset)
        if (bytesRead === 0) return
        this.#offset += bytesRead
        this.#lines.push(buffer.subarray(0, bytesRead))
      }
    } finally {
      await file.close()
    }
  }

  /** Why it ended: what was fatal, and before it what restore_command had to say. */
  reason(): string {
    const [severe, said] = [this.#severe.text(), this.#said.text()]
    const text =
      severe === '' && said === '' ? this.#last.text() : [said, severe].filter((one) => one !== '').join('\n')
    return text.split('\n').slice(-4).join('; ')
  }

  #take(line: string): void {
    const [, level, text = ''] = /^\S+ \S+ \S+ \[\d+\] ([A-Z]+\d?): {2}(.*)$/.exec(line) ?? []
    this.#last.push(line)
    if (level === undefined) {
      if (!line.startsWith('\t')) this.#said.push(line)
    } else if (level === 'FATAL' || level === 'PANIC') {
      this.#severe.push(text)
      if (text.startsWith('recovery ended before configured recovery target')) this.endedBeforeTarget = true
    } else if (level === 'LOG') this.#note(text)
    else if (level === 'CONTEXT')
      this.newTablespace = /^WAL redo at \S+ for Tablespace\/CREATE: \d+ "(.*)"/.exec(text)?.[1] ?? this.newTablespace
    else if (text.startsWith('hot standby is not possible')) this.isStuck = true
    else if (level === 'DETAIL' && this.isStuck) this.#said.push(text)
  }

  #note(text: string): void {
    // SyncDataDirectory() in src/backend/storage/file/fd.c
    if (!this.isReplaying && /^could not (?:synchronize file system for|fsync) file /.test(text))
      this.unwritten ??= text
    const restored = /^restored log file "([0-9A-F]{24})" from archive$/.exec(text)
    if (restored !== null) {
      const file = parseWalName(restored[1] ?? '', this.#segmentSize)
      if (file?.kind === 'segment') this.#moveTo(file.timeline, firstLsn(file.segment, this.#segmentSize))
      return
    }
    const place = /^redo (starts|in progress|done)\b.* (?:at|current LSN:) ([0-9A-F]+\/[0-9A-F]+)/.exec(text)
    const lsn = parseLsn(place?.[2] ?? '')
    if (place !== null && lsn !== null) {
      this.isReplaying = true
      this.#moveTo(this.replayed.timeline, lsn)
      if (place[1] === 'done') this.lastRecord = lsn
    } else if (/^recovery stopping (before|after|at) /.test(text)) this.stoppedAt = text
  }

  #moveTo(timeline: number, lsn: bigint): void {
    if (lsn >= this.replayed.lsn) this.replayed = { timeline: Math.max(timeline, this.#timeline), lsn }
  }
}
