import { LifeboatError } from './errors.ts'
import { formatLsn, parseLsn } from './lsn.ts'
import { type RecoveryTarget, targetTime } from './recovery-plan.ts'

/** A restore of the whole cluster that somebody wants, into a directory. */
export interface RestoreWish {
  /** The new data directory, absolute. */
  readonly to: string
  readonly target: RecoveryTarget
  /** Null: that of the server, or the newest. */
  readonly timeline: number | null
  readonly backup: string | null
  readonly repository: string | null
  readonly systemIdentifier: string | null
  /** Old place, or oid, of tablespaces, and their new place. */
  readonly tablespaces: readonly (readonly [old: string, place: string])[]
  /** Start a server and lead it to the target; otherwise the directory is left as it is before that. */
  readonly start: boolean
  readonly action: 'promote' | 'pause'
  /** The latest moment is that before the first segment that is missing, though there are later ones. */
  readonly missingIsEnd: boolean
  /** Whose the files are to be, if root restores; null: who owns the directory, or else postgres. */
  readonly osUser: string | null
}

type Params = Readonly<Record<string, string | number | boolean | null>>

/**
 * As the params of a run: equal wishes are equal params.
 *
 * @throws LifeboatError `usage-invalid` for a wish that cannot come true
 */
export function restoreParams(wish: RestoreWish): Params {
  const { target, tablespaces, to } = wish
  for (const path of [to, ...tablespaces.map(([, place]) => place)]) {
    // What `..` means behind a link is another thing for who compares paths than for the kernel.
    if (!path.startsWith('/') || /\p{Cc}|\/\.\.?(?:\/|$)/u.test(path))
      throw new LifeboatError(
        'usage-invalid',
        `${JSON.stringify(path)} is not an absolute path without . and .. and control characters`,
      )
  }
  if (/["$`\\]/.test(to))
    throw new LifeboatError('usage-invalid', `no server could be started in ${JSON.stringify(to)} by hand`, {
      hint: 'pg_ctl hands the path to a shell: choose one without ", $, ` and \\',
    })
  // PostgreSQL takes no longer ones, and compares bytes.
  if (target.kind === 'name' && (!/^[^\0]+$/.test(target.name) || Buffer.byteLength(target.name) > 63))
    throw new LifeboatError('usage-invalid', 'the name of a restore point has from 1 to 63 bytes')
  if (wish.action === 'pause' && target.kind === 'latest')
    throw new LifeboatError('usage-invalid', 'the latest moment is no place at which a server can pause', {
      hint: 'name a moment or a place in the WAL, or leave the action out',
    })
  if (wish.missingIsEnd && target.kind !== 'latest')
    throw new LifeboatError('usage-invalid', 'only for the latest moment can what is missing be the end', {
      hint: 'a target before the missing WAL is reached without that, and one after it never',
    })
  const mapped = tablespaces.toSorted(([a], [b]) => (a < b ? -1 : 1))
  return {
    ...{ to, timeline: wish.timeline, backup: wish.backup, repository: wish.repository },
    ...{ systemIdentifier: wish.systemIdentifier, start: wish.start, action: wish.action },
    ...{ missingIsEnd: wish.missingIsEnd, osUser: wish.osUser },
    targetKind: target.kind,
    targetValue: targetValueOf(target),
    ...(target.kind === 'time' && target.micros ? { targetMicros: target.micros } : {}),
    tablespaces: mapped.length === 0 ? null : JSON.stringify(mapped),
  }
}

/** What params ask for; null: they are those of a dump's restore. */
export function wishOf(params: Params): RestoreWish | null {
  const { to, targetKind, action } = params
  if (typeof to !== 'string') return null
  const text = (name: string) => (typeof params[name] === 'string' ? params[name] : null)
  return {
    to,
    target: targetOf(targetKind, params),
    timeline: typeof params.timeline === 'number' ? params.timeline : null,
    backup: text('backup'),
    repository: text('repository'),
    systemIdentifier: text('systemIdentifier'),
    tablespaces: JSON.parse(text('tablespaces') ?? '[]') as RestoreWish['tablespaces'],
    start: params.start !== false,
    action: action === 'pause' ? 'pause' : 'promote',
    missingIsEnd: params.missingIsEnd === true,
    osUser: text('osUser'),
  }
}

/** In words, for people. */
export function targetWords(target: RecoveryTarget): string {
  switch (target.kind) {
    case 'latest':
      return 'the latest moment'
    case 'immediate':
      return 'the end of the backup'
    case 'time':
      return targetTime(target)
    case 'lsn':
      return formatLsn(target.lsn)
    case 'name':
      return `the restore point ${JSON.stringify(target.name)}`
  }
}

function targetValueOf(target: RecoveryTarget): string | null {
  if (target.kind === 'time') return target.at.toISOString()
  if (target.kind === 'lsn') return formatLsn(target.lsn)
  return target.kind === 'name' ? target.name : null
}

function targetOf(kind: Params[string] | undefined, { targetValue, targetMicros }: Params): RecoveryTarget {
  const value = String(targetValue)
  if (kind === 'time') return { kind, at: new Date(value), micros: Number(targetMicros ?? 0) }
  if (kind === 'lsn') return { kind, lsn: parseLsn(value) ?? 0n }
  if (kind === 'name') return { kind, name: value }
  return { kind: kind === 'immediate' ? 'immediate' : 'latest' }
}
