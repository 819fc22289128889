import type { Logger } from 'pino'
import type { Clock } from './clock.ts'
import type { ValidatedConfig } from './config/validated.ts'
import { createLsnClock } from './observe/lsn-clock.ts'
import { createSlotsLook } from './observe/slots.ts'
import { WalArchive } from './observe/wal-archive.ts'
import { type WalSources, walArchiveCollector } from './observe/wal-collectors.ts'
import { createLsnClockProbe } from './postgres/lsn-clock.ts'
import type { History } from './runner/history.ts'

export interface WalSourcesOptions {
  readonly history: History
  readonly clock: Clock
  readonly log: Logger
  /** Something may be new for this collector. */
  readonly hint: (collector: string) => void
}

/** What looks at the WAL. */
export function walSources(
  { postgres, wal }: Pick<ValidatedConfig, 'postgres' | 'wal'>,
  { history, clock, log, hint }: WalSourcesOptions,
): WalSources {
  const onHint = () => hint(walArchiveCollector)
  const archive = wal.archive === null ? null : new WalArchive({ directory: wal.archive, clock, log, onHint })
  return {
    archive: archive && { look: (signal) => archive.look(signal), close: async () => archive.close() },
    stored: [],
    clock: createLsnClock({ probe: createLsnClockProbe(postgres), store: history.wal.lsnClock, clock, log }),
    clockSeconds: wal.clockSeconds,
    slots: createSlotsLook({
      source: postgres,
      maintenanceDatabase: postgres.maintenanceDatabase,
      limitBytes: wal.slotLimitBytes,
    }),
    holes: wal.holes,
  }
}
