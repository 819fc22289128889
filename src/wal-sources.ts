import type { Logger } from 'pino'
import type { Clock } from './clock.ts'
import type { ValidatedConfig } from './config/validated.ts'
import { createLsnClock } from './observe/lsn-clock.ts'
import type { WalSources } from './observe/wal-collectors.ts'
import { createLsnClockProbe } from './postgres/lsn-clock.ts'
import type { History } from './runner/history.ts'

/** What looks at the WAL: only the clock, so far. */
export function walSources(
  { postgres, wal }: Pick<ValidatedConfig, 'postgres' | 'wal'>,
  { history, clock, log }: { readonly history: History; readonly clock: Clock; readonly log: Logger },
): WalSources {
  return {
    archive: null,
    stored: [],
    clock: createLsnClock({ probe: createLsnClockProbe(postgres), store: history.wal.lsnClock, clock, log }),
    clockSeconds: wal.clockSeconds,
    slots: null,
    holes: wal.holes,
  }
}
