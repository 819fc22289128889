import { join } from 'node:path'
import type { ValidatedConfig } from '../config/validated.ts'
import type { Installation } from '../postgres/installations.ts'
import { type ScratchServer, startScratchServer } from '../postgres/scratch-server.ts'
import { VerdictError } from './level-recorder.ts'
import type { Phases } from './phases.ts'
import { reserveBytes } from './room.ts'
import { type ScratchAccount, scratchAccount } from './scratch-account.ts'
import { freeBytes } from './work-folder.ts'

/** WAL and an empty cluster, and what stays free. */
const spareBytes = 256 * 1024 * 1024 + reserveBytes

export interface ScratchStartOptions {
  readonly config: ValidatedConfig
  readonly folder: string
  /** What the restored data and its indexes take, as far as anybody can tell. */
  readonly dataBytes: number
  /** Asked once there is room. */
  readonly installation: () => Installation
  readonly superuser: string
  readonly initdbArgs: readonly string[]
  readonly phases: Phases
  readonly signal: AbortSignal
}

/** An empty server in the work folder, apart from the rest of the machine where that is permitted. */
export interface StartedScratch {
  readonly server: ScratchServer
  readonly account: ScratchAccount
}

/** @throws VerdictError `disk-full` when the folder's disk has no room for it; what starting a server throws */
export async function startScratch(options: ScratchStartOptions): Promise<StartedScratch> {
  const { config, folder, dataBytes, superuser, initdbArgs, phases, signal } = options
  const needed = dataBytes + spareBytes
  const free = await freeBytes(folder)
  if (free < needed) {
    const words = `the restore needs about ${needed} bytes, ${folder} has ${free} free`
    throw new VerdictError('inconclusive', 'disk-full', 'scratch server', words)
  }
  const installation = options.installation()
  const account = await scratchAccount(config, [folder, installation.directory], signal)
  const server = await startScratchServer({
    installation,
    directory: join(folder, 'scratch'),
    osUser: account.osUser,
    through: account.isolation.through,
    superuser,
    initdbArgs,
    workFolder: folder,
    signal,
    onPhase: (phase) => phases.begin(phase),
  }).finally(() => phases.end())
  return { server, account }
}
