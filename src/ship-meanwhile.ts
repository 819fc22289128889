import type { Logger } from 'pino'
import type { Clock } from './clock.ts'
import type { ValidatedConfig } from './config/validated.ts'
import type { Core } from './core.ts'
import { toFailure } from './domain/errors.ts'
import { Cipher } from './encryption/cipher.ts'
import { readOnlyIndex } from './observe/recovery-offline.ts'
import { createServerProbe } from './observe/server.ts'
import { StoredWalIndex } from './observe/stored-wal.ts'
import { WalArchive } from './observe/wal-archive.ts'
import type { StoredWalState, WalArchiveState } from './observe/wal-state.ts'
import { createShipper } from './shipping/shipper.ts'
import { expiredBefore } from './wal-service.ts'

const lookEveryMs = 500

/**
 * Ships the WAL archive for as long as a command needs it: where no sidecar does, a physical backup would wait in vain for
 * its WAL. Beside a sidecar it does no harm: what is stored is not stored again. Nothing is removed from the archive, and
 * nothing is noted.
 */
export function shipMeanwhile(
  config: ValidatedConfig,
  core: Pick<Core, 'repositories' | 'history' | 'leases'>,
  { clock, log }: { readonly clock: Clock; readonly log: Logger },
): { stop(): Promise<void> } {
  const directory = config.wal.archive
  if (directory === null) return { stop: async () => {} }
  const stopping = new AbortController()
  const { signal } = stopping
  const repositories = core.repositories.map(({ repository }) => repository)
  const stored = new Map<string, StoredWalState>()
  let archived: WalArchiveState | null = null
  let systemIdentifier: string | null = null
  const archive = new WalArchive({ directory, clock, log, onHint: () => {}, onHeard: (names) => shipper.hint(names) })
  const records = readOnlyIndex(core.history.wal)
  const indexes = repositories.map((repository) => new StoredWalIndex({ repository, records, clock, log }))
  const probe = createServerProbe(config.postgres)
  const shipper = createShipper({
    ...{ repositories, clock, log, ...config.wal.ship },
    cipher: new Cipher(config.encryption),
    // As that of the server that is there; what is not of it is seen file by file.
    archive: () => (archived && systemIdentifier !== null ? { ...archived, systemIdentifier } : archived),
    stored: (name) => stored.get(name) ?? null,
    isOurs: (name) => core.leases.standby(name) === null,
    systemIdentifiers: () => new Set(systemIdentifier === null ? [] : [systemIdentifier]),
    shipFrom: (repository, system, timeline) =>
      expiredBefore(
        core.history,
        { repository, systemIdentifier: system, timeline },
        archived?.segmentSize ?? null,
        log,
      ),
    keepInArchiveMs: null,
  })

  async function attempt(what: string, look: () => Promise<void>): Promise<void> {
    try {
      await look()
    } catch (error) {
      if (!signal.aborted) log.warn(toFailure(error), `${what} cannot be looked at`)
    }
  }

  async function run(): Promise<void> {
    while (!signal.aborted) {
      if (systemIdentifier === null)
        await attempt('the server', async () => {
          systemIdentifier = (await probe(signal)).systemIdentifier
        })
      await attempt('the WAL archive', async () => {
        archived = await archive.look(signal)
      })
      for (const [index, one] of indexes.entries())
        await attempt(`the WAL in ${repositories[index]?.name}`, async () => {
          const state = await one.look(signal)
          stored.set(state.repository, state)
        })
      shipper.hint()
      await clock.sleep(lookEveryMs, signal).catch(() => {})
    }
  }

  shipper.start()
  const running = run()
  return {
    async stop() {
      stopping.abort()
      await shipper.stop()
      await running
      archive.close()
      for (const index of indexes) await index.close()
    },
  }
}
