/** A sidecar to be killed: it copies what is archived into a repository, and says each recovery point that it knows. */
import { setTimeout as delay } from 'node:timers/promises'
import { systemClock } from '../../src/clock.ts'
import type { LifeboatError } from '../../src/domain/errors.ts'
import { createLsnClock } from '../../src/observe/lsn-clock.ts'
import { createObserver } from '../../src/observe/observer.ts'
import { walCollector } from '../../src/observe/wal-collectors.ts'
import type { ConnectionSource } from '../../src/postgres/connection.ts'
import { createLsnClockProbe } from '../../src/postgres/lsn-clock.ts'
import { Repository } from '../../src/repository/repository.ts'
import { openHistory } from '../../src/runner/history.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { keptLog } from '../support/log.ts'
import { Copier, listStored } from '../support/stored-wal.ts'

export interface TruthOptions {
  readonly stateFile: string
  readonly repository: string
  readonly archive: string
  readonly source: ConnectionSource
  readonly systemIdentifier: string
  readonly segmentSize: number
}

const { stateFile, archive, source, systemIdentifier, segmentSize, ...options } = JSON.parse(
  process.argv[2] ?? '',
) as TruthOptions
const clock = systemClock
const { log } = keptLog()
const history = openHistory({ file: stateFile, clock, log })
const storage = new LocalStorage({ root: options.repository })
const repository = new Repository({ name: 'local', cluster: 'test', storage, clock })
const probe = createLsnClockProbe({ ...source, maintenanceDatabase: 'postgres' })
const observer = createObserver({
  repositories: [{ repository, watchRoot: null, capacity: null }],
  ...{ watches: [], server: null, archiver: null, databases: null },
  wal: {
    archive: null,
    stored: [
      {
        repository: 'local',
        look: () => listStored(repository, systemIdentifier, segmentSize),
        close: async () => {},
      },
    ],
    clock: createLsnClock({ probe, store: history.wal.lsnClock, clock, log }),
    ...{ clockSeconds: 0.2, slots: null, holes: [] },
  },
  history: { jobs: () => [], backupFailures: () => [] },
  ...{ clock, log, intervalSeconds: 3600, timeoutSeconds: 10 },
})
observer.onChange(({ wal }) => {
  const [found] = wal?.repositories ?? []
  const { recoveryPoint, exposureBytes } = found ?? { recoveryPoint: null, exposureBytes: null }
  process.stdout.write(`${JSON.stringify({ point: recoveryPoint?.getTime() ?? null, exposureBytes })}\n`)
})
observer.start()
const copier = new Copier()
for (;;) {
  const copied = await copier.copy(archive, repository, systemIdentifier).catch((error: LifeboatError) => {
    process.stderr.write(`${error.stack}\n`)
    return 0
  })
  if (copied > 0) observer.hint(walCollector('local'))
  await delay(50)
}
