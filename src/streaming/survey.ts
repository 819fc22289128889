import { LifeboatError } from '../domain/errors.ts'
import { formatLsn } from '../domain/lsn.ts'
import { planStart, type StreamStart } from '../domain/stream.ts'
import { walFileKind } from '../domain/wal.ts'
import { type ConnectionSource, withSession } from '../postgres/connection.ts'
import { explainReplication, identifySystem, type ReplicationFacts } from '../postgres/replication.ts'
import {
  createSlot,
  describeStreamServer,
  dropSlot,
  type ReplicationSlot,
  type StreamServer,
} from '../postgres/slots.ts'
import type { ReceivingDirectory } from './receiving-directory.ts'

export interface SurveyOptions {
  readonly source: ConnectionSource
  readonly maintenanceDatabase: string
  readonly slot: string
  readonly directory: ReceivingDirectory
  readonly signal: AbortSignal
}

export type Surveyed = ReplicationFacts & Pick<StreamServer, 'serverMajor' | 'segmentSize'>

export interface Survey {
  readonly server: Surveyed
  readonly start: StreamStart
  /** What had to be made first: `made` where there was no slot, `renewed` in place of one that the server had given up. */
  readonly slot: 'there' | 'made' | 'renewed'
}

/**
 * Looks at server and directory, makes the slot if there is none, and decides where the receiver begins.
 *
 * @throws LifeboatError what keeps it from beginning: `conflict` when the slot is of another kind or in use or the server
 * has other WAL than the archive; `server-authentication`, `server-error`, `storage-failed`, …, with what to do
 */
export async function survey({ source, maintenanceDatabase, slot, directory, signal }: SurveyOptions): Promise<Survey> {
  const replication = await identifySystem(source, signal)
  return withSession(source, { database: maintenanceDatabase, signal }, async (session) => {
    const described = await describeStreamServer(session)
    const { serverMajor, segmentSize, files } = described
    const server = { ...replication, serverMajor, segmentSize }
    const before = described.slots.find(({ name }) => name === slot)
    assertOurs(slot, before)
    await directory.ready(before === undefined)
    await directory.moveFinished()
    let kept = before?.kept ?? null
    const isGivenUp = before !== undefined && (kept === null || before.walStatus === 'lost')
    if (before === undefined || isGivenUp) {
      try {
        if (isGivenUp) await dropSlot(session, slot)
        await createSlot(session, slot)
      } catch (error) {
        throw explainReplication(error, source.user)
      }
      const made = (await describeStreamServer(session)).slots.find(({ name }) => name === slot)
      kept = made?.kept ?? null
    }
    if (kept === null) throw new LifeboatError('server-error', `the slot ${slot} keeps no WAL`)
    const numbers = files === null ? null : new Set(files.filter(isSegment).map((name) => name.slice(8)))
    const perLog = 0x1_0000_0000 / segmentSize
    const start = planStart({
      segmentSize,
      stretches: server.stretches,
      end: server.end,
      kept,
      next:
        (await directory.next(segmentSize, server.systemIdentifier)) ??
        // The slot knows better, unless it is new: listing an archive takes long.
        (before === undefined || isGivenUp ? await directory.nextInArchive(segmentSize) : null),
      has: (segment) => {
        const digits = (value: number) => value.toString(16).toUpperCase().padStart(8, '0')
        return numbers?.has(`${digits(Math.floor(segment / perLog))}${digits(segment % perLog)}`) ?? true
      },
    })
    if (start === null) throw behind(server)
    return { server, start, slot: before === undefined ? 'made' : isGivenUp ? 'renewed' : 'there' }
  })
}

const isSegment = (name: string) => walFileKind(name) === 'segment'

function assertOurs(name: string, slot: ReplicationSlot | undefined): void {
  if (slot === undefined) return
  if (slot.type !== 'physical')
    throw new LifeboatError('conflict', `the slot ${name} is a logical one, and cannot be used to receive WAL`, {
      hint: 'name another one in wal.stream.slot: it is made when it is not there',
    })
  if (slot.active)
    throw new LifeboatError(
      'conflict',
      `somebody else receives with the slot ${name}: ${slot.user ?? 'nobody knows who'}`,
      {
        hint: 'give each Lifeboat and each pg_receivewal a slot of its own (wal.stream.slot); one whose network was cut is let go after wal_sender_timeout',
      },
    )
}

function behind({ end }: ReplicationFacts): LifeboatError {
  return new LifeboatError(
    'conflict',
    `the server ends at ${formatLsn(end)}, before what has been received of its timeline`,
    {
      hint: 'a standby catches up by itself; a server that has lost WAL, or was restored, needs an empty archive directory of its own',
    },
  )
}
