import { lockedRetention } from '../config/cost-settings.ts'
import { kinds } from '../config/kinds.ts'
import { formatDuration, parseDuration } from '../config/units.ts'
import type { RepositoryConfig } from '../config/validated.ts'
import type { CostSettings } from '../domain/cost-usage.ts'
import { LifeboatError } from '../domain/errors.ts'

/** Options that ask what something else would cost. */
export const costChangeOptions = {
  'keep-for': { type: 'string' },
  'keep-at-least': { type: 'string' },
  'wal-keep-for': { type: 'string' },
  'storage-class': { type: 'string' },
  'wal-storage-class': { type: 'string' },
} as const

export const costChangeHelp = [
  ['--keep-for DURATION', 'beside it: what it would cost with this keepFor, e.g. 60d or forever'],
  ['--keep-at-least N', 'and with this keepAtLeast'],
  [
    '--wal-keep-for DURATION',
    'and with this walKeepFor (default: as long as before, or as --keep-for where they were equal)',
  ],
  ['--storage-class CLASS', 'and with backups in this storage class, of repositories in buckets'],
  ['--wal-storage-class CLASS', 'and with WAL in this storage class'],
] as const

/** What is to be different; null: as it is. For ever is infinite. */
export interface CostChange {
  readonly keepForSeconds: number | null
  readonly keepAtLeast: number | null
  readonly walKeepForSeconds: number | null
  readonly storageClass: string | null
  readonly walStorageClass: string | null
}

type Values = Readonly<Partial<Record<keyof typeof costChangeOptions, string | undefined>>>

/** @throws LifeboatError `usage-invalid` */
export function changeOf(values: Values): CostChange | null {
  const change = {
    keepForSeconds: secondsOf('keep-for', values['keep-for']),
    keepAtLeast: countOf(values['keep-at-least']),
    walKeepForSeconds: secondsOf('wal-keep-for', values['wal-keep-for']),
    storageClass: classOf('storage-class', values['storage-class']),
    walStorageClass: classOf('wal-storage-class', values['wal-storage-class']),
  }
  return Object.values(change).every((one) => one === null) ? null : change
}

function secondsOf(flag: string, text: string | undefined): number | null {
  if (text === undefined) return null
  if (text === 'forever') return Number.POSITIVE_INFINITY
  const seconds = parseDuration(text) / 1000
  if (seconds < 3600) throw new LifeboatError('usage-invalid', `--${flag} must be at least 1h`)
  return seconds
}

function countOf(text: string | undefined): number | null {
  if (text === undefined) return null
  if (/^[1-9]\d{0,4}$/.test(text)) return Number(text)
  throw new LifeboatError('usage-invalid', '--keep-at-least must be a whole number from 1 to 99999')
}

function classOf(flag: string, text: string | undefined): string | null {
  if (text === undefined) return null
  try {
    kinds.storageClass.check(text)
  } catch (error) {
    if (!(error instanceof LifeboatError)) throw error
    throw new LifeboatError(
      'usage-invalid',
      `--${flag} ${error.message}`,
      error.hint === undefined ? {} : { hint: error.hint },
    )
  }
  return text
}

/** Infinite as null. */
const endless = (seconds: number) => (seconds === Number.POSITIVE_INFINITY ? null : seconds)

/**
 * The settings as they would be.
 *
 * @throws LifeboatError `usage-invalid` for a retention that the configuration would refuse, and a class of a directory
 */
export function changed(settings: CostSettings, change: CostChange, { name, bucket }: RepositoryConfig): CostSettings {
  const { retention, classes } = settings
  const keepForSeconds = change.keepForSeconds === null ? retention.keepForSeconds : endless(change.keepForSeconds)
  const { windowSeconds } = retention
  if (windowSeconds !== null && keepForSeconds !== null && keepForSeconds < windowSeconds)
    throw new LifeboatError('usage-invalid', `--keep-for is shorter than the window of ${name}`, {
      hint: `at least ${formatDuration(windowSeconds * 1000)}`,
    })
  if (bucket === null && (change.storageClass ?? change.walStorageClass) !== null)
    throw new LifeboatError('usage-invalid', `${name} is a directory, and has no storage classes`, {
      hint: 'name a bucket with --repository',
    })
  const follows = settings.walKeepForSeconds === retention.keepForSeconds
  const walBefore = follows ? keepForSeconds : settings.walKeepForSeconds
  return {
    ...settings,
    retention: lockedRetention(
      { ...retention, keepForSeconds, keepAtLeast: change.keepAtLeast ?? retention.keepAtLeast },
      bucket,
    ),
    walKeepForSeconds: change.walKeepForSeconds === null ? walBefore : endless(change.walKeepForSeconds),
    classes: {
      ...classes,
      backups: change.storageClass ?? classes.backups,
      wal: change.walStorageClass ?? classes.wal,
    },
  }
}
