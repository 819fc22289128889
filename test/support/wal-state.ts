import type { WalCoverage } from '../../src/domain/coverage.ts'
import type {
  RepositoryWal,
  StoredWalState,
  WalArchiveState,
  WalClockState,
  WalState,
} from '../../src/observe/wal-state.ts'
import { at } from './catalog.ts'

const systemIdentifier = '7500000000000000001'

/** An archive directory that holds these segments. */
export function walArchive(coverage: WalCoverage, fields: Partial<WalArchiveState> = {}): WalArchiveState {
  return {
    directory: '/archive',
    systemIdentifier,
    segmentSize: coverage.segmentSize,
    segments: coverage.size,
    partials: 0,
    histories: 0,
    labels: 0,
    foreign: 0,
    bytes: coverage.size * coverage.segmentSize,
    plainNames: [],
    partialNames: [],
    newest: null,
    coverage,
    revision: 1,
    capacity: null,
    ...fields,
  }
}

/** A repository that holds these segments, each in a thousand bytes, of the cluster of the other states here. */
export function storedState(repository: string, coverage: WalCoverage): StoredWalState {
  const { size: segments } = coverage
  const system = { systemIdentifier, coverage, segments, partials: 0, bytes: segments * 1000, contradictions: 0 }
  const systems = new Map([[systemIdentifier, system]])
  return { repository, systems, revision: 1, listedAt: at(0) }
}

export function clockState(fields: Partial<WalClockState> & Pick<WalClockState, 'lsn'>): WalClockState {
  return {
    systemIdentifier,
    timeline: 1,
    at: at(600),
    segmentSize: 16 * 1024 * 1024,
    inRecovery: false,
    rate: null,
    ...fields,
  }
}

/** The WAL in a repository, all of it known. */
export function repositoryWal(repository: string, fields: Partial<RepositoryWal> = {}): RepositoryWal {
  return {
    repository,
    segments: 1200,
    bytes: 4_000_000,
    from: { timeline: 1, lsn: 0x1000028n },
    hasBackup: true,
    end: { timeline: 1, lsn: 0x5000000n },
    coveredUntil: at(598),
    recoveryPoint: at(598),
    windows: [{ from: at(60), until: at(598), backup: '20260301T000000Z-full-abcdef', hole: null }],
    exposureBytes: 4096,
    backlogSegments: 2,
    backlogBytes: 32 * 1024 * 1024,
    missingSegments: 3,
    gaps: [],
    ...fields,
  }
}

export function walState(...repositories: readonly RepositoryWal[]): WalState {
  return { archive: null, stored: [], clock: null, repositories, slots: null }
}
